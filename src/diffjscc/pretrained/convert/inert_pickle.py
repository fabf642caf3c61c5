"""Pickles of tensors read as data: no name in a file is imported, nothing in it is called.

A pickle is a program for a small stack machine. `read_pickle` is such a machine for containers,
strings, numbers and torch's description of a tensor. Everything else in a file, be it a class, an
instance or a call, becomes an `Inert`, which keeps only the name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias, cast

import torch

MAX_BYTES = 1 << 26  # of one pickle; a full checkpoint's has less than 1 MB
# A full checkpoint with both moments of an optimiser for each of its tensors takes 234,000 steps.
MAX_STEPS = 500_000  # each may cost some 100 bytes of memory
_MAX_COUNT, _MAX_DIMENSIONS = (1 << 62), 64

_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_SCALARS = (str, bytes, int, float, bool, type(None))


class PickleError(ValueError):
    """A pickle that is damaged, too large, or not of the kind that torch writes."""


class Inert:
    """Stand-in for an object that is not built; its items and state are discarded.

    Attributes:
        name: module and name in the file.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name[:200]}, not built>"


@dataclass(frozen=True)
class Storage:
    """A block of numbers in the file.

    Attributes:
        key: its name in the file.
        dtype: type of its numbers.
        count: number of numbers.
    """

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """Description of a tensor in the file: numbers `offset + Σ index·stride` of a storage.

    Attributes:
        storage: block that holds the numbers.
        offset: index of the first one.
        shape: the tensor's shape.
        stride: steps in the storage along each dimension.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


Value: TypeAlias = Any  # a scalar, a container of values, Storage, StoredTensor or Inert


class Bounded:
    """A file that the machine may read at most `limit` bytes of, from its current position."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, limit

    def read(self, count: int) -> bytes:
        """Read `count` bytes, or fewer at the end of the file."""
        self._spend(count)
        return self._file.read(count)

    def readline(self) -> bytes:
        """Read bytes up to and including a newline."""
        line = self._file.readline(self._limit + 1)
        self._spend(len(line))
        return line

    def tell(self) -> int:
        """Position in the file."""
        return self._file.tell()

    def _spend(self, count: int) -> None:
        if count > self._limit:
            raise PickleError(
                f"its pickle asks for {count:,} bytes, but only {self._limit:,} are left of the "
                "most that a checkpoint's pickle may have"
            )
        self._limit -= count


def read_pickle(file: BinaryIO, limit: int = MAX_BYTES) -> Value:
    """Read the pickle at the file's position; the file is left at the pickle's end.

    Args:
        file: the file.
        limit: the most bytes that the pickle may have.

    Raises:
        PickleError: damaged, larger than `limit`, or of more than `MAX_STEPS` steps.
    """
    return _Machine().run(Bounded(file, min(limit, MAX_BYTES)))


class _Machine:
    """The stack machine: values, heights of the stack at the marks, and memoised values."""

    def __init__(self) -> None:
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}

    def run(self, file: Bounded) -> Value:
        """Run a program and return the value on top of the stack when it stops."""
        try:
            for step, (code, argument, position) in enumerate(
                pickletools.genops(cast("BinaryIO", file))
            ):
                if step >= MAX_STEPS:
                    raise PickleError(f"its pickle has more than {MAX_STEPS:,} steps")
                self._step(code.name, argument, position)
            return self.stack.pop()
        except (ValueError, LookupError, OverflowError) as error:
            if isinstance(error, PickleError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise PickleError(f"its pickle is damaged ({reason})") from error

    def _step(self, name: str, argument: Value, position: int | None) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _MADE:
            self.stack.append(_MADE[name]())
        elif name in _KEPT:
            self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]
        elif name in _RECALLED:
            self.stack.append(self.memo[int(argument)])
        elif name in _TUPLES:
            self.stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise PickleError(f"its pickle uses {name} at byte {position}, which torch never does")

    def _pop(self, count: int) -> list[Value]:
        if count > len(self.stack):
            raise PickleError("its pickle is damaged (the stack is empty)")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def pop_to_mark(self) -> list[Value]:
        """Pop the values above the last mark."""
        return self._pop(len(self.stack) - self.marks.pop())

    def push_global(self, argument: str) -> None:
        """GLOBAL: push a class or function by name; `argument` is "module name"."""
        self.stack.append(Inert(argument.replace(" ", ".", 1)))

    def push_stack_global(self, _: None) -> None:
        """STACK_GLOBAL: the same with module and name from the stack."""
        module, name = self._pop(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleError("its pickle names a class by something other than strings")
        self.stack.append(Inert(f"{module}.{name}"))

    def instantiate(self, argument: str) -> None:
        """INST: push the instance of a class given by name."""
        self.pop_to_mark()
        self.push_global(argument)

    def instantiate_first(self, _: None) -> None:
        """OBJ: push the instance of the class that is the first value above the mark."""
        self._push_result(self.pop_to_mark()[0], None)

    def call(self, _: None) -> None:
        """REDUCE and NEWOBJ: push the result for a callable and its arguments."""
        function, arguments = self._pop(2)
        self._push_result(function, arguments)

    def call_with_names(self, _: None) -> None:
        """NEWOBJ_EX: push the instance for a class, its arguments and its named arguments."""
        self._push_result(self._pop(3)[0], None)

    def _push_result(self, function: Value, arguments: Value) -> None:
        if not isinstance(function, Inert):
            raise PickleError(f"its pickle calls a {type(function).__name__}")
        build = _BUILDERS.get(function.name)
        built = None
        if build is not None and isinstance(arguments, tuple):
            built = build(arguments)
        self.stack.append(Inert(function.name) if built is None else built)

    def load_persistent(self, _: None) -> None:
        """BINPERSID: push a storage from ("storage", type, key, device, count)."""
        match self.stack.pop():
            case ("storage", Inert(name=name), str(key), _, int(count), *view):
                if name in _STORAGES and 0 <= count <= _MAX_COUNT and view in ([], [None]):
                    self.stack.append(Storage(key, _STORAGES[name], count))
                else:
                    self.stack.append(Inert(name))
            case _:
                raise PickleError("its pickle refers to something that is no storage of tensors")

    def extend(self, values: list[Value]) -> None:
        """Append values to the list on top of the stack."""
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Inert):
            raise PickleError(f"its pickle appends to a {type(target).__name__}")

    def update(self, values: list[Value]) -> None:
        """Add keys and values, in turn, to the dictionary on top of the stack."""
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update(_pairs(values))
        elif not isinstance(target, Inert):
            raise PickleError(f"its pickle sets items of a {type(target).__name__}")

    def push_dictionary(self, _: None) -> None:
        """DICT: push a dictionary of the keys and values above the mark."""
        self.stack.append(_pairs(self.pop_to_mark()))


def _pairs(values: list[Value]) -> dict[Value, Value]:
    """Make a dictionary of keys and values in turn.

    Containers as keys become stand-ins: hashing tuples nested a billion-fold would never end.
    """
    if len(values) % 2:
        raise PickleError("its pickle is damaged (a key without a value)")
    keys = (k if type(k) in (*_SCALARS, Inert) else Inert(type(k).__name__) for k in values[::2])
    return dict(zip(keys, values[1::2], strict=True))


def _tensor(arguments: tuple[Value, ...]) -> Value:
    """Describe the tensor of a call of `torch._utils._rebuild_tensor_v2`."""
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(stride), *_):
            numbers = (offset, *shape, *stride)
            if len(shape) == len(stride) <= _MAX_DIMENSIONS and all(map(_is_count, numbers)):
                return StoredTensor(storage, offset, shape, stride)
    return None


def _is_count(value: Value) -> bool:
    """Return whether a value is a count or an offset that a file can have."""
    return type(value) is int and 0 <= value <= _MAX_COUNT


def _parameter(arguments: tuple[Value, ...]) -> Value:
    """Return the tensor of a parameter."""
    if arguments and isinstance(arguments[0], StoredTensor):
        return arguments[0]
    return None


def _ordered(arguments: tuple[Value, ...]) -> Value:
    """Make an empty OrderedDict; its items follow."""
    return None if arguments else {}


# Builders of a call's result, by the callable's name; they return None for arguments not torch's.
_BUILDERS: dict[str, Callable[[tuple[Value, ...]], Value]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "collections.OrderedDict": _ordered,
}
_PUSHED = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
        *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_MADE: dict[str, Callable[[], Value]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,  # members of sets are never looked up, and in a list they need no hash
}
_KEPT = frozenset(["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"])
_RECALLED = frozenset(["GET", "BINGET", "LONG_BINGET"])
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": lambda machine, _: machine._pop(1).clear(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark().clear(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "FROZENSET": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "DICT": _Machine.push_dictionary,
    "APPEND": lambda machine, _: machine.extend(machine._pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.update(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.pop_to_mark()),
    "GLOBAL": _Machine.push_global,
    "STACK_GLOBAL": _Machine.push_stack_global,
    "INST": _Machine.instantiate,
    "OBJ": _Machine.instantiate_first,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_names,
    "BUILD": lambda machine, _: machine._pop(1).clear(),
    "BINPERSID": _Machine.load_persistent,
}

"""YAML from anywhere: plain values of bounded size and depth, read in a bounded time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

LARGEST_FILE = 1 << 20  # bytes
MOST_VALUES = 20_000  # in a file, aliases written out
MOST_LEVELS = 32  # of lists and mappings within each other
LARGEST_NUMBER = 1 << 63
LONGEST_NUMBER = 40  # characters
_OTHER_BASES = re.compile(r"[-+]?0[0-7_]+|.*:.*")  # as YAML 1.1 reads 010 and 1:30

_PREFIX = "tag:yaml.org,2002:"
_PLAIN = frozenset(f"{_PREFIX}{name}" for name in ("null", "bool", "int", "float", "str"))
_HOLDERS = frozenset(f"{_PREFIX}{name}" for name in ("seq", "map"))
_MERGE = f"{_PREFIX}merge"
_READS = "text, numbers, true, false, null, lists and mappings"


class _Loader(yaml.SafeLoader):
    """Composes at most `MOST_VALUES` nodes, at most `MOST_LEVELS` deep."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.levels = 0
        self.values = 0

    def _next(self) -> yaml.Event:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        return event

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        self.levels += 1
        self.values += 1
        if self.levels > MOST_LEVELS:
            raise _problem(f"it is nested more than {MOST_LEVELS} levels deep", self._next())
        if self.values > MOST_VALUES:
            raise _problem(f"it holds more than {MOST_VALUES:,} values", self._next())
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file, no UTF-8 text, no YAML, no mapping, or goes beyond the bounds of
            `parse_yaml`.
        OSError: it cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no config {path}; correct the path")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or pipe"
        raise ValueError(f"config {path} is {kind}; give a YAML file")
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"config {path} is larger than {LARGEST_FILE >> 20} MiB; is it a config?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"config {path} is not UTF-8 text: byte {error.start} is wrong") from None
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"config {path} is not valid YAML: {error}") from None
    if values is None:
        raise ValueError(f"config {path} is empty; write settings as key: value")
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else f"the single value {str(values)[:40]!r}"
        raise ValueError(  # noqa: TRY004 - a broken file, not a wrong call
            f"config {path} holds {kind}; a mapping is needed, written as key: value"
        )
    return values


def parse_yaml(text: str) -> Any:  # noqa: ANN401 - whatever it holds
    """The value that a YAML text holds: plain values, lists, and mappings with words as keys.

    Raises:
        ValueError: no YAML; a key twice; a date, tag, infinite number or NaN; an integer beyond 64
            bits; or more than `MOST_VALUES` values, aliases written out, or `MOST_LEVELS` levels.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _count(root, {})
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"{_place(mark)}{error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character[:1])
        raise ValueError(f"character #x{code:04x} is not allowed in YAML") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(str(error).partition("\n")[0] or "it is nested too deeply") from None


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Count the values below a node, aliases written out, and check each of them."""
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise _problem("an alias stands within what it names", node)
        return size
    known[id(node)] = None
    _check(node)
    size = 1 + sum(_count(child, known) for child in _children(node))
    if size > MOST_VALUES:
        raise _problem(f"it holds more than {MOST_VALUES:,} values, aliases written out", node)
    known[id(node)] = size
    return size


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _unknown(node: yaml.Node) -> yaml.MarkedYAMLError:
    return _problem(f"the tag {_named(node.tag)} is not known; a config holds {_READS}", node)


def _check(node: yaml.Node) -> None:
    """Raise YAMLError for what is no plain value, or a mapping whose keys are not distinct words.

    Numbers are tried here, where their place is known.
    """
    if isinstance(node, yaml.ScalarNode):
        kind = node.tag.removeprefix(_PREFIX)
        if node.tag == f"{_PREFIX}timestamp":
            raise _problem(f"{node.value} reads as a date; put it in quotes", node)
        if node.tag not in _PLAIN | {_MERGE}:
            raise _unknown(node)
        if kind in ("int", "float"):
            _check_number(node)
        return
    if node.tag not in _HOLDERS:
        raise _unknown(node)
    if not isinstance(node, yaml.MappingNode):
        return
    keys = set()
    for key, _ in node.value:
        if key.tag not in (f"{_PREFIX}str", _MERGE):
            shown = f"the key {key.value}" if isinstance(key, yaml.ScalarNode) else "a key"
            raise _problem(f"{shown} is no word; correct it or put it in quotes", key)
        if key.value in keys:
            raise _problem(f"the key {key.value[:60]!r} is there twice; keep one of them", key)
        keys.add(key.value)


def _check_number(node: yaml.ScalarNode) -> None:
    shown = node.value[:LONGEST_NUMBER]
    if _OTHER_BASES.fullmatch(node.value):
        raise _problem(f"{shown} reads as a number of base 8 or 60; put it in quotes", node)
    constructor = yaml.constructor.SafeConstructor()
    try:
        if len(node.value) > LONGEST_NUMBER:
            raise ValueError
        if node.tag == f"{_PREFIX}int":
            if abs(int(constructor.construct_yaml_int(node))) >= LARGEST_NUMBER:
                raise _problem(f"{shown} goes beyond 64 bits", node)
        elif not math.isfinite(constructor.construct_yaml_float(node)):
            raise _problem(f"{shown} is not a finite number", node)
    except (ValueError, OverflowError):
        raise _problem(f"{shown!r} is no number that can be read", node) from None


def _named(tag: str) -> str:
    return f"!!{tag.removeprefix(_PREFIX)}"[:60] if tag.startswith(_PREFIX) else tag[:60]


def _problem(text: str, where: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark: Any = where.start_mark
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark)


def _place(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "

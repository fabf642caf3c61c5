"""A device without float64, as Apple's GPUs are, pretended on the CPU.

Its tensors are wrappers of CPU tensors that say they are on `DEVICE`. Every operation of torch is
watched: a float64 tensor there, or one together with tensors of the CPU, is an error, as it is on a
real one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("mps", 0)
_WIDE = (torch.float64, torch.complex128)
# Operations that may take tensors of several devices.
_MIXED = ("aten::copy_", "aten::_to_copy", "aten::index.", "aten::index_put")


class OnDevice(Tensor):
    """A tensor on the pretended device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="cpu",  # for torch's own code, which has no other here
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The pretended device."""
        return DEVICE

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is Tensor.cpu:
            return args[0].held.clone()
        if function is Tensor.tolist:
            return args[0].held.tolist()
        if function is Tensor.to and len(args) > 1 and isinstance(args[1], OnDevice):
            return args[0].to(DEVICE, args[1].dtype)
        if function is Tensor.to and isinstance(args[0], OnDevice):
            device = torch._C._nn._parse_to(*args[1:], **(kwargs or {}))[0]
            if device is not None and device.type == "cpu":
                return args[0].held.to(*args[1:], **(kwargs or {})).clone()
        return super().__torch_function__(function, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(function, args, kwargs or {})


class Pretending(TorchDispatchMode):
    """Within this block `DEVICE` exists."""

    def __enter__(self) -> Pretending:
        # torch.tensor and torch.as_tensor make their tensors on the CPU, and move them.
        self._before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        entered: Pretending = super().__enter__()
        return entered

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._before)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        super().__exit__(*error)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(function, args, kwargs or {})


def compute(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU what was asked of the pretended device."""
    leaves = tree_flatten((args, kwargs))[0]
    ours = [leaf for leaf in leaves if isinstance(leaf, OnDevice)]
    others = [
        leaf
        for leaf in leaves
        if isinstance(leaf, Tensor) and not isinstance(leaf, OnDevice) and leaf.ndim > 0
    ]
    name = str(function.name())  # type: ignore[attr-defined]
    if ours and others and not name.startswith(_MIXED):
        raise RuntimeError(f"{name} of tensors on {DEVICE} and on the CPU")
    asked = kwargs.get("device")
    there = bool(ours) or (asked is not None and torch.device(asked).type == DEVICE.type)
    unwrapped_args, unwrapped = tree_map(_unwrapped, (args, kwargs))
    result = function(*unwrapped_args, **unwrapped)
    if name.split(".", maxsplit=1)[0].endswith("_"):  # in place
        return args[0]
    return tree_map(_wrapped, result) if there else result


def _unwrapped(leaf: Any) -> Any:
    if isinstance(leaf, OnDevice):
        return leaf.held
    if isinstance(leaf, torch.device) and leaf.type == DEVICE.type:
        return torch.device("cpu")
    return leaf


def _wrapped(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    if leaf.dtype in _WIDE:
        raise TypeError(f"the device has no {leaf.dtype}")
    return OnDevice(leaf)

"""Placement of networks on devices, with offloading to the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from diffjscc.refiners.widening import (
    WeightStorage,
    leave_as_they_are,
    narrowed,
    widen_when_used,
)

# Dtype of weights, or how they are stored; None is bfloat16 on CUDA and float32 elsewhere.
Precision: TypeAlias = torch.dtype | WeightStorage | None

# Compute capability of the first NVIDIA GPUs with bfloat16 (Ampere).
BFLOAT16_CAPABILITY = (8, 0)
LARGE_NETWORK = 100_000_000  # parameters
_DEVICES = ("cpu", "cuda", "mps", "xpu")


def usable_device(name: str) -> torch.device:
    """Return the device of a name such as "cpu", "cuda" or "cuda:1".

    Raises:
        ValueError: no such device on this machine, or one that this build of torch cannot use.
    """
    if not re.fullmatch(rf"({'|'.join(_DEVICES)})(:\d{{1,2}})?", name):
        raise ValueError(f"device {name!r} is unknown; give one of {', '.join(_DEVICES)} or auto")
    device = torch.device(name)
    if device.type == "cpu":
        return torch.device("cpu")
    backend = getattr(torch, device.type)
    if not (torch.backends.mps if device.type == "mps" else backend).is_available():
        raise ValueError(
            f"device {name!r} cannot be used: this machine, or this build of torch, has no "
            f"{device.type} device; use --device cpu or auto"
        )
    count = backend.device_count()
    if device.index is not None and device.index >= count:
        raise ValueError(
            f"device {name!r} does not exist; this machine has {count}, "
            f"{device.type}:0 to {device.type}:{count - 1}"
        )
    check_build(device)
    return device


def check_build(device: torch.device) -> None:
    """Raise ValueError if the installed torch was not built for a CUDA GPU of this generation."""
    built = torch.cuda.get_arch_list() if device.type == "cuda" else []
    if not any(name.startswith("sm_") for name in built):  # not NVIDIA's
        return
    own = torch.cuda.get_device_capability(device)
    for name in built:
        kind, _, digits = name.partition("_")
        number = digits.rstrip("af")  # of variants such as sm_90a
        capability = int(number[:-1]), int(number[-1])
        # Machine code runs on its own generation, intermediate code on later ones too.
        if capability <= own and (kind == "compute" or capability[0] == own[0]):
            return
    raise ValueError(
        f"{describe_gpu(device)} is not supported by this build of torch, which is for "
        f"{', '.join(built)}; use --device cpu, or install a torch that was built for this GPU"
    )


def describe_gpu(device: torch.device) -> str:
    """Return a CUDA GPU's name and compute capability."""
    major, minor = torch.cuda.get_device_capability(device)
    name = torch.cuda.get_device_name(device)
    return f"{device} ({name}, compute capability {major}.{minor})"


def check_overflow(values: Tensor, dtype: torch.dtype, name: str) -> None:
    """Raise ValueError, which names `name`, if networks of float16 gave NaN or infinite values."""
    if dtype == torch.float16 and not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"{name} overflowed in float16, whose largest number is 65504; use --dtype float32, "
            "or bfloat16 on a GPU that has it"
        )


@dataclass(frozen=True)
class Placement:
    """Device for networks that may not fit into its memory together.

    Attributes:
        device: device that computes.
        offload: whether networks stay on the CPU while they are not needed.
    """

    device: torch.device
    offload: bool = False

    @property
    def home(self) -> torch.device:
        """Device of the networks while they are not needed."""
        return torch.device("cpu") if self.offload else self.device

    def precision(self, dtype: Precision) -> torch.dtype:
        """Return the dtype that networks compute in.

        None selects bfloat16 on a CUDA GPU that computes with it, and float32 elsewhere: float16
        overflows in some networks.

        Raises:
            ValueError: none of float32, float16 and bfloat16, or bfloat16 for a GPU that does not
                compute with it.
        """
        if isinstance(dtype, WeightStorage):
            return torch.float32
        if dtype not in (None, torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(
                f"networks cannot compute with {dtype}; give torch.float32, torch.float16 or "
                "torch.bfloat16"
            )
        if self.device.type != "cuda" or dtype not in (None, torch.bfloat16):
            return torch.float32 if dtype is None else dtype
        if torch.cuda.get_device_capability(self.device) >= BFLOAT16_CAPABILITY:
            return torch.bfloat16
        if dtype is None:
            return torch.float32
        raise ValueError(
            f"{describe_gpu(self.device)} does not compute with bfloat16; use --dtype float16 or "
            "float32"
        )

    def settle(self, modules: Iterable[nn.Module], dtype: Precision) -> None:
        """Move networks to `home`, in the layout that their convolutions are fast on.

        It is channels-last, except for networks of the paper's size on a CPU, which have many
        channels and few positions: a step of theirs takes 5 % longer so.

        Args:
            modules: the networks.
            dtype: of their weights; see `precision`.
        """
        for module in modules:
            leave_as_they_are(module)
            # Not diffusers' own `to`, which warns about an empty list of float32 modules.
            if isinstance(dtype, WeightStorage):
                nn.Module.to(module, self.home)
                widen_when_used(module)
            else:
                nn.Module.to(module, self.home, self.precision(dtype))
            numbers = sum(parameter.numel() for parameter in module.parameters())
            wide = self.device.type == "cpu" and numbers > LARGE_NETWORK
            layout = torch.contiguous_format if wide else torch.channels_last
            nn.Module.to(module, memory_format=layout)  # type: ignore[call-overload]

    def copy(self, tensor: Tensor, dtype: Precision) -> Tensor:
        """Copy a weight, with device and dtype as set by `settle`."""
        if isinstance(dtype, WeightStorage):
            return narrowed(tensor).to(self.home, copy=True)
        kind = self.precision(dtype) if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self.home, kind, copy=True)

    @contextmanager
    def holding(self, *modules: nn.Module | None) -> Iterator[None]:
        """Keep networks on the device during the block; None is skipped."""
        present = [module for module in modules if module is not None]
        for module in present:
            module.to(self.device)
        try:
            yield
        finally:
            for module in present if self.offload else ():
                module.to("cpu")

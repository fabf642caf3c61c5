"""Where networks compute, and where they wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Placement:
    """A device for networks that may be too large to be on it together.

    Attributes:
        device: where they compute.
        offload: whether they wait on the CPU until they are needed.
    """

    device: torch.device
    offload: bool = False

    @property
    def home(self) -> torch.device:
        """Where networks are while nobody needs them."""
        return torch.device("cpu") if self.offload else self.device

    def precision(self, dtype: torch.dtype | None) -> torch.dtype:
        """The weights' type; None is bfloat16 on CUDA and float32 elsewhere."""
        if dtype is not None:
            return dtype
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def settle(self, modules: Iterable[nn.Module], dtype: torch.dtype | None) -> None:
        """Bring networks to where they wait, channels last, which convolutions run faster on.

        Args:
            modules: the networks.
            dtype: of their weights; see `precision`.
        """
        for module in modules:
            # Not diffusers' own `to`, which warns of modules to be kept in float32: "[]".
            nn.Module.to(module, self.home, self.precision(dtype))
            nn.Module.to(module, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def copy(self, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
        """A weight as `settle` would have it, in memory of its own."""
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        kind = self.precision(dtype) if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self.home, kind, copy=True, memory_format=layout)

    @contextmanager
    def holding(self, *modules: nn.Module | None) -> Iterator[None]:
        """Have networks, those that there are, on the device while the block runs."""
        present = [module for module in modules if module is not None]
        for module in present:
            module.to(self.device)
        try:
            yield
        finally:
            for module in present if self.offload else ():
                module.to("cpu")

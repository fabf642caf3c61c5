"""Placement of networks on devices, with offloading to the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


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

    def precision(self, dtype: torch.dtype | None) -> torch.dtype:
        """Return the dtype of the weights; None selects bfloat16 on CUDA and float32 elsewhere."""
        if dtype is not None:
            return dtype
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def settle(self, modules: Iterable[nn.Module], dtype: torch.dtype | None) -> None:
        """Move networks to `home`, in channels-last layout, which is faster for convolutions.

        Args:
            modules: the networks.
            dtype: of their weights; see `precision`.
        """
        for module in modules:
            # Not diffusers' own `to`, which warns about an empty list of float32 modules.
            nn.Module.to(module, self.home, self.precision(dtype))
            nn.Module.to(module, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def copy(self, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
        """Copy a weight, with device, dtype and layout as set by `settle`."""
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        kind = self.precision(dtype) if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self.home, kind, copy=True, memory_format=layout)

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

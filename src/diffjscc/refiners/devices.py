"""Where networks compute, and where they wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Placement:
    """A device for networks that may be too large to be on it together.

    Attributes:
        device: where they compute.
        offload: whether they wait on the CPU until they are needed.
    """

    device: torch.device
    offload: bool = False

    def settle(self, modules: Iterable[nn.Module], dtype: torch.dtype | None) -> None:
        """Bring networks to where they wait, channels last, which convolutions run faster on.

        Args:
            modules: the networks.
            dtype: of their weights; None is bfloat16 on CUDA and float32 elsewhere.
        """
        if dtype is None:
            dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        home = torch.device("cpu") if self.offload else self.device
        for module in modules:
            module.to(home, dtype)
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

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

"""Metrics of many images against the same originals: what depends on an original is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

KEPT_BYTES = 400_000_000
# Pixels of the largest original of which anything is kept: larger ones are measured by tiles.
LARGEST = 1 << 20

# Tensors that a metric made of an original.
Prepared = tuple[Tensor, ...]


@runtime_checkable
class PreparingMetric(Protocol):
    """A metric that can be computed in two steps, of which the first needs the originals alone."""

    def prepare(self, references: Tensor) -> Prepared:
        """Compute what does not depend on the images, of references [1, 3, H, W]."""
        ...

    def against(self, images: Tensor, prepared: Prepared) -> Tensor:
        """Measure images [1, 3, H, W] against the references that were prepared, [1]."""
        ...


@dataclass(eq=False)
class _Original:
    pixels: Tensor
    of: dict[str, Prepared] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        tensors = [tensor for prepared in self.of.values() for tensor in prepared]
        return sum(tensor.nbytes for tensor in tensors)


class References:
    """Results of metrics for the latest originals, up to `KEPT_BYTES`."""

    def __init__(self) -> None:
        self._kept: list[_Original] = []

    def prepared(self, name: str, metric: PreparingMetric, pixels: Tensor) -> Prepared:
        """Return what a metric makes of an original [1, 3, H, W], computed once.

        Args:
            name: of the metric.
            metric: makes it.
            pixels: the original.
        """
        original = next((one for one in self._kept if _same(one.pixels, pixels)), None)
        if original is None:
            original = _Original(pixels.clone())
            self._kept = [*self._kept, original]
        found = original.of.get(name)
        if found is None:
            found = original.of[name] = metric.prepare(pixels)
            kept = self._kept
            while len(kept) > 1 and sum(one.nbytes for one in kept) > KEPT_BYTES:
                kept = kept[1:]
            self._kept = kept
        return found


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)

"""Networks with a wide view, on images larger than memory.

What such a network gives for a tile depends on the tile, so tiles that were cut apart would show
seams. Here they overlap and fade into each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

OVERLAP = 1 / 3  # of a tile, with each neighbour


def windows(length: int, tile: int) -> list[slice]:
    """Windows of `tile` cells, evenly spread over `length` cells; one if they fit into it."""
    if length <= tile:
        return [slice(0, length)]
    count = math.ceil((length - tile) / (tile * (1 - OVERLAP))) + 1
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    return [slice(start, start + tile) for start in starts]


def scaled(window: slice, scale: int) -> slice:
    """The positions of a window of cells, `scale` to a cell."""
    return slice(window.start * scale, window.stop * scale)


def _bell(length: int, device: torch.device) -> Tensor:
    """Weights of a tile along one side, float32 [length]: a raised cosine, 0 at its ends."""
    position = (torch.arange(length, device=device) + 0.5) / length
    return torch.sin(torch.pi * position).square()


def blend_tiles(
    network: Callable[[slice, slice], Tensor], size: tuple[int, int], tile: int, scale: int = 1
) -> Tensor:
    """Apply a network window by window and average what it gives, weighted towards tile centres.

    Args:
        network: maps a window (rows, columns), in cells, to [B, C, h·scale, w·scale].
        size: (h, w) of the whole, in cells.
        tile: side of a window in cells; up to `tile`² cells go through in one piece.
        scale: output positions per cell and side.

    Returns:
        [B, C, h·scale, w·scale], float32 where there is more than one window.
    """
    height, width = size
    if height * width <= tile * tile:
        return network(slice(0, height), slice(0, width))
    total, weights = None, None
    for rows, columns in product(windows(height, tile), windows(width, tile)):
        part = network(rows, columns).float()
        if total is None or weights is None:
            shape = (height * scale, width * scale)
            total = part.new_zeros(*part.shape[:2], *shape)
            weights = part.new_zeros(shape)
        bell = torch.outer(*(_bell(n, part.device) for n in part.shape[-2:]))
        top, left = scaled(rows, scale), scaled(columns, scale)
        total[..., top, left] += bell * part
        weights[top, left] += bell
    assert total is not None
    assert weights is not None
    return total / weights

"""Networks applied to images larger than memory, tile by tile.

`spans` is for a limited receptive field: each tile is read with a margin (halo) as wide as the
field, and the result is that of the whole image. (`banding` does without computing margins twice.)
`blend_tiles` is for networks with a global receptive field, whose output for a tile depends on the
tile: tiles overlap and fade into each other, so that no seams show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

from diffjscc.progress import reported

OVERLAP, LEAST_OVERLAP = 1 / 8, 8  # of a tile with each neighbour, and in positions
MULTIPLE = 8  # of positions a side, which networks with several resolutions want


def spans(length: int, tile: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Yield tiles along one side: (positions to read, halo included; the part to keep of them)."""
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        low, high = max(start - halo, 0), min(stop + halo, length)
        yield slice(low, high), slice(start - low, stop - low)


def tile_windows(length: int, tile: int) -> list[slice]:
    """Windows of at most `tile` positions spread evenly over `length`; one if `tile` covers it."""
    if length <= tile:
        return [slice(0, length)]
    overlap = max(1, min(tile // 3, max(LEAST_OVERLAP, int(OVERLAP * tile))))
    count = math.ceil((length - overlap) / (tile - overlap))
    side = math.ceil((length + (count - 1) * overlap) / count)
    side = min(tile, math.ceil(side / MULTIPLE) * MULTIPLE)
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    return [slice(start, start + side) for start in starts]


def scaled(window: slice, scale: int) -> slice:
    """Scale a window to a grid with `scale` positions per position."""
    return slice(window.start * scale, window.stop * scale)


def _raised_cosine(length: int, device: torch.device) -> Tensor:
    """Blending weights along one side of a tile, float32 [length]: a raised cosine."""
    position = (torch.arange(length, device=device) + 0.5) / length
    return torch.sin(torch.pi * position).square()


def blend_tiles(
    network: Callable[[slice, slice], Tensor],
    size: tuple[int, int],
    tile: int,
    scale: int = 1,
    work: str = "working on tiles",
) -> Tensor:
    """Apply a network window by window and average its outputs, weighted towards tile centres.

    Args:
        network: maps a window (rows, columns) of latent positions to [B, C, h·scale, w·scale].
        size: (h, w) of the whole latent.
        tile: side of a window in latent positions; latents of up to `tile`² positions are
            processed in one piece.
        scale: output positions per latent position and side.
        work: name of the work in reports of progress.

    Returns:
        [B, C, h·scale, w·scale], float32 where there is more than one window.
    """
    height, width = size
    if height * width <= tile * tile:
        return network(slice(0, height), slice(0, width))
    total, weights = None, None
    windows = list(product(tile_windows(height, tile), tile_windows(width, tile)))
    for rows, columns in reported(windows, work):
        part = network(rows, columns).float()
        if total is None or weights is None:
            shape = (height * scale, width * scale)
            total = part.new_zeros(*part.shape[:2], *shape)
            weights = part.new_zeros(shape)
        weight = torch.outer(*(_raised_cosine(n, part.device) for n in part.shape[-2:]))
        top, left = scaled(rows, scale), scaled(columns, scale)
        total[..., top, left] += weight * part
        weights[top, left] += weight
    assert total is not None
    assert weights is not None
    return total.div_(weights)

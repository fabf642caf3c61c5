"""Networks applied to images larger than memory, tile by tile.

`apply_tiled` is for networks with a limited receptive field: each tile is read with a margin (halo)
as wide as the field, and the result is that of the whole image. `blend_tiles` is for networks with
a global receptive field, whose output for a tile depends on the tile: tiles overlap and fade into
each other, so that no seams show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product

import torch
from torch import Tensor

OVERLAP = 1 / 3  # of a tile, with each neighbour


def spans(length: int, tile: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Yield tiles along one side: (positions to read, halo included; the part to keep of them)."""
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        low, high = max(start - halo, 0), min(stop + halo, length)
        yield slice(low, high), slice(start - low, stop - low)


def apply_tiled(
    network: Callable[[Tensor], Tensor],
    inputs: Tensor,
    stride: int,
    scale: Fraction,
    tile: int,
    halo: int,
) -> Tensor:
    """Apply a network with a limited receptive field to [B, C, H, W] tile by tile.

    The result equals that of the whole image if `halo` covers the receptive field. Zero padding at
    the image's borders is the same, too, because tiles keep those borders.

    Args:
        network: maps [B, C, h, w] to [B, C', h·scale, w·scale].
        inputs: [B, C, H, W], sides multiples of `stride`.
        stride: input positions per latent position and side; tiles are cut at its multiples.
        scale: output positions per input position and side.
        tile: side of a tile in latent positions; images of up to `tile`² latent positions are
            processed in one piece.
        halo: latent positions read beyond each side of a tile.

    Returns:
        [B, C', H·scale, W·scale].
    """
    rows, columns = inputs.shape[-2] // stride, inputs.shape[-1] // stride
    if rows * columns <= tile * tile:
        return network(inputs)

    def pick(position: slice, step: Fraction) -> slice:
        return slice(int(position.start * step), int(position.stop * step))

    step = stride * scale
    whole: Tensor | None = None  # tiles are put into their place at once: images may be large
    for read_rows, keep_rows in spans(rows, tile, halo):
        for read_columns, keep_columns in spans(columns, tile, halo):
            read = pick(read_rows, Fraction(stride)), pick(read_columns, Fraction(stride))
            part = inputs[..., *read].contiguous(memory_format=torch.channels_last)
            out = network(part)
            if whole is None:
                size = (int(rows * step), int(columns * step))
                whole = torch.empty(
                    (*out.shape[:2], *size),
                    dtype=out.dtype,
                    device=out.device,
                    memory_format=torch.channels_last,
                )
            kept = pick(keep_rows, step), pick(keep_columns, step)
            top = int((read_rows.start + keep_rows.start) * step)
            left = int((read_columns.start + keep_columns.start) * step)
            part = out[..., *kept]
            whole[..., top : top + part.shape[-2], left : left + part.shape[-1]] = part
    assert whole is not None
    return whole


def tile_windows(length: int, tile: int) -> list[slice]:
    """Windows of `tile` positions spread evenly over `length`; a single one if `tile` covers it."""
    if length <= tile:
        return [slice(0, length)]
    count = math.ceil((length - tile) / (tile * (1 - OVERLAP))) + 1
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    return [slice(start, start + tile) for start in starts]


def scaled(window: slice, scale: int) -> slice:
    """Scale a window to a grid with `scale` positions per position."""
    return slice(window.start * scale, window.stop * scale)


def _raised_cosine(length: int, device: torch.device) -> Tensor:
    """Blending weights along one side of a tile, float32 [length]: a raised cosine."""
    position = (torch.arange(length, device=device) + 0.5) / length
    return torch.sin(torch.pi * position).square()


def blend_tiles(
    network: Callable[[slice, slice], Tensor], size: tuple[int, int], tile: int, scale: int = 1
) -> Tensor:
    """Apply a network window by window and average its outputs, weighted towards tile centres.

    Args:
        network: maps a window (rows, columns) of latent positions to [B, C, h·scale, w·scale].
        size: (h, w) of the whole latent.
        tile: side of a window in latent positions; latents of up to `tile`² positions are
            processed in one piece.
        scale: output positions per latent position and side.

    Returns:
        [B, C, h·scale, w·scale], float32 where there is more than one window.
    """
    height, width = size
    if height * width <= tile * tile:
        return network(slice(0, height), slice(0, width))
    total, weights = None, None
    for rows, columns in product(tile_windows(height, tile), tile_windows(width, tile)):
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

"""Local networks on images larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
from torch import Tensor


def _spans(length: int, tile: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Along one side: (cells to read, halo included, and cells to keep of them)."""
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        low, high = max(start - halo, 0), min(stop + halo, length)
        yield slice(low, high), slice(start - low, stop - low)


def in_tiles(
    network: Callable[[Tensor], Tensor],
    inputs: Tensor,
    cell: int,
    scale: Fraction,
    tile: int,
    halo: int,
) -> Tensor:
    """Apply a local network to [B, C, H, W] tile by tile.

    The result is that of the whole image if `halo` covers the network's reach: the borders of
    the image itself stay where they were, so even its zero padding is the same.

    Args:
        network: maps [B, C, h, w] to [B, C', h·scale, w·scale].
        inputs: [B, C, H, W], sides a multiple of `cell`.
        cell: input positions per latent cell and side; tiles are cut between cells.
        scale: output positions per input position and side.
        tile: side of a tile in cells; images up to `tile`² cells go through in one piece.
        halo: cells read beyond each side of a tile.
    """
    rows, columns = inputs.shape[-2] // cell, inputs.shape[-1] // cell
    if rows * columns <= tile * tile:
        return network(inputs)

    def pick(position: slice, step: Fraction) -> slice:
        return slice(int(position.start * step), int(position.stop * step))

    step = cell * scale
    bands = []
    for read_rows, keep_rows in _spans(rows, tile, halo):
        band = []
        for read_columns, keep_columns in _spans(columns, tile, halo):
            part = inputs[..., pick(read_rows, Fraction(cell)), pick(read_columns, Fraction(cell))]
            part = part.contiguous(memory_format=torch.channels_last)
            band.append(network(part)[..., pick(keep_rows, step), pick(keep_columns, step)])
        bands.append(torch.cat(band, dim=-1))
    return torch.cat(bands, dim=-2)

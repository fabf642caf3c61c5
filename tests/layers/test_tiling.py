"""Tiles: blended ones without seams, and every position covered."""

import itertools

import pytest
import torch
from torch import Tensor

from diffjscc.layers.tiling import blend_tiles, tile_windows


@pytest.mark.parametrize("scale", [1, 4])
def test_tiles_that_disagree_fade_into_each_other(scale: int) -> None:
    numbers = itertools.count()

    def disagreeing(rows: slice, columns: slice) -> Tensor:
        size = ((rows.stop - rows.start) * scale, (columns.stop - columns.start) * scale)
        return torch.full((1, 1, *size), float(next(numbers) % 2))

    blended = blend_tiles(disagreeing, (48, 64), 24, scale)
    assert blended.shape == (1, 1, 48 * scale, 64 * scale)
    assert next(numbers) > 4
    assert blended.min() >= 0
    assert blended.max() <= 1
    # Without blending, neighbouring tiles differ by 1.
    assert max(blended.diff(dim=dim).abs().max().item() for dim in (-2, -1)) < 0.25 / scale


def test_tiles_of_a_local_network_are_the_whole_image() -> None:
    image = torch.rand(1, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    whole = blend_tiles(lambda r, c: image[..., r, c].sin(), (50, 70), 16)
    torch.testing.assert_close(whole, image.sin())
    covered = torch.zeros(70)
    for window in tile_windows(70, 16):
        assert window.stop - window.start <= 16
        covered[window] += 1
    assert covered.min() >= 1

"""Means of blocks of pixels: the linear measurement A of the image, and its pseudo-inverse."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from diffjscc.data.geometry import padded_length


def pool(images: Tensor, factor: int) -> Tensor:
    """Compute A·x, the means of blocks of `factor`² pixels.

    Sides that are not multiples of `factor` are padded with copies of the last row and column.

    Args:
        images: [B, C, H, W].
        factor: side of a block in pixels.

    Returns:
        [B, C, ⌈H/factor⌉, ⌈W/factor⌉].
    """
    height, width = images.shape[-2:]
    right, bottom = (padded_length(n, factor) - n for n in (width, height))
    padded = F.pad(images, (0, right, 0, bottom), mode="replicate")
    return F.avg_pool2d(padded, factor)


def replicate(pooled: Tensor, factor: int) -> Tensor:
    """Compute A†·y: repeat each pixel `factor`² times, [B, C, h, w] to [B, C, factor·h, factor·w].

    A·A† is the identity; A†·A projects onto images that are constant in every block.
    """
    return pooled.repeat_interleave(factor, -2).repeat_interleave(factor, -1)

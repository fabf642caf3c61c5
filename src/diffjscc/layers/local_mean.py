"""Means over the neighbourhood of each position."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def local_mean(x: Tensor, side: int) -> Tensor:
    """Average [B, C, H, W] over windows of side x side positions (odd), clipped at the borders.

    Columns first, then rows of their means: 2·side numbers to a position instead of side².
    """
    for window, padding in (((side, 1), (side // 2, 0)), ((1, side), (0, side // 2))):
        x = F.avg_pool2d(x, window, stride=1, padding=padding, count_include_pad=False)
    return x

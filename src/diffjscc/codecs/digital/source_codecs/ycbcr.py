"""Full-range YCbCr with the matrix of BT.601, as in JPEG files and BPG, in floating point.

Y = 0.299 R + 0.587 G + 0.114 B in [0, 1], Cb = (B - Y)/1.772 and Cr = (R - Y)/1.402 in
[-0.5, 0.5].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Chroma = Literal["4:4:4", "4:2:0"]

_RED, _BLUE = 0.299, 0.114
_GREEN = 1 - _RED - _BLUE


def to_ycbcr(image: Tensor) -> Tensor:
    """Convert RGB [3, H, W] in [0, 1] to Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    red, green, blue = image
    luma = _RED * red + _GREEN * green + _BLUE * blue
    return torch.stack((luma, (blue - luma) / (2 - 2 * _BLUE), (red - luma) / (2 - 2 * _RED)))


def to_rgb(ycbcr: Tensor) -> Tensor:
    """Invert `to_ycbcr`; values may be outside [0, 1]."""
    luma, cb, cr = ycbcr
    red, blue = luma + (2 - 2 * _RED) * cr, luma + (2 - 2 * _BLUE) * cb
    return torch.stack((red, (luma - _RED * red - _BLUE * blue) / _GREEN, blue))


def halve(planes: Tensor) -> Tensor:
    """Average 2x2 pixels: [C, H, W] with even sides to [C, H/2, W/2]."""
    return F.avg_pool2d(planes[None], 2)[0]


def double(planes: Tensor) -> Tensor:
    """Interpolate bicubically, samples at the centres of 2x2 pixels: [C, h, w] to [C, 2h, 2w]."""
    return F.interpolate(planes[None], scale_factor=2, mode="bicubic")[0]

"""Texture map: the local deviation of an image's fine scales.

A blurred initial image does not show whether a place was out of focus or badly received. The
transmitter knows: a codec may send this map within the same symbols, and a refiner adds detail
where the map says that there was some.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from diffjscc.layers.local_mean import local_mean

LOCAL_MEAN = 9  # side of the mean, in pixels, that is subtracted to leave the fine scales
LEAST = 0.25  # levels of 255; a smaller deviation does not show
TYPICAL = 2.0  # log2 of levels, about the mean of photographs


def fine_scales(images: Tensor) -> Tensor:
    """Subtract the mean over 9x9 pixels from [B, C, H, W]."""
    return images - local_mean(images, LOCAL_MEAN)


def texture_map(images: Tensor, stride: int = 16) -> Tensor:
    """Compute the local deviation of fine scales around each latent position.

    The brightness minus its mean over 9x9 pixels is squared and averaged over windows of twice
    the stride.

    Args:
        images: [B, 3, H, W] in [0, 1], sides multiples of `stride`.
        stride: pixels per latent position and side, even.

    Returns:
        log2 of the deviation in levels of 255, [B, 1, H/stride, W/stride], at least -2.
    """
    return local_deviation(fine_scales(images.mean(dim=1, keepdim=True)), stride)


def local_deviation(fine: Tensor, stride: int) -> Tensor:
    """Compute the map, as `texture_map` does, from the fine scales of brightness [B, 1, H, W]."""
    power = F.pad(fine.square(), (stride // 2,) * 4, mode="reflect")
    deviation = 255 * F.avg_pool2d(power, 2 * stride, stride).sqrt()
    return deviation.clamp(min=LEAST).log2()

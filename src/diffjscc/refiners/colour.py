"""Colours of the initial image for the final one: the prior's own drift.

Both fixes take whole images, before they are clamped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.choices import ColourFix

LEVELS = 5


def blur(images: Tensor, radius: int) -> Tensor:
    """[B, C, H, W] filtered by [1 2 1]⊗[1 2 1]/16 with taps `radius` apart, edges replicated."""
    channels = images.shape[1]
    row = torch.tensor([0.25, 0.5, 0.25], dtype=images.dtype, device=images.device)
    kernel = torch.outer(row, row).expand(channels, 1, 3, 3)
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    return F.conv2d(padded, kernel, dilation=radius, groups=channels)


def low_frequencies(images: Tensor) -> Tensor:
    """What five à-trous passes (taps 1, 2, 4, 8 and 16 apart) leave of [B, C, H, W]."""
    for level in range(LEVELS):
        images = blur(images, 2**level)
    return images


def wavelet(images: Tensor, reference: Tensor) -> Tensor:
    """Detail of `images` on the low frequencies of `reference`, both [B, 3, H, W]."""
    return images + low_frequencies(reference - images)


def adain(images: Tensor, reference: Tensor) -> Tensor:
    """`images` with the mean and deviation per channel of `reference`, both [B, 3, H, W].

    Huang and Belongie, arXiv 1703.06868.
    """

    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True)
        return mean, (variance + 1e-5).sqrt()

    (mean, deviation), (target_mean, target_deviation) = statistics(images), statistics(reference)
    return (images - mean) / deviation * target_deviation + target_mean


def unchanged(images: Tensor, reference: Tensor) -> Tensor:
    """`images`, whatever the reference."""
    del reference
    return images


FIXES: dict[ColourFix, Callable[[Tensor, Tensor], Tensor]] = {
    "wavelet": wavelet,
    "adain": adain,
    "none": unchanged,
}

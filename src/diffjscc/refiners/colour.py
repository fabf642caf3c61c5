"""Colour correction: the final image gets the colours of the initial one.

Colours of sampled images drift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.choices import ColourFix

LEVELS = 5
REACH = 2**LEVELS - 1  # pixels to each side that the low-pass filter reads


def blur(images: Tensor, radius: int) -> Tensor:
    """Filter [B, C, H, W] by [1 2 1]⊗[1 2 1]/16, taps `radius` pixels apart, edges replicated."""
    channels = images.shape[1]
    row = torch.tensor([0.25, 0.5, 0.25], dtype=images.dtype, device=images.device)
    kernel = torch.outer(row, row).expand(channels, 1, 3, 3)
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    return F.conv2d(padded, kernel, dilation=radius, groups=channels)


def low_frequencies(images: Tensor) -> Tensor:
    """Low-pass filter [B, C, H, W] by five à-trous passes (taps 1, 2, 4, 8 and 16 apart)."""
    for level in range(LEVELS):
        images = blur(images, 2**level)
    return images


def wavelet(images: Tensor, reference: Tensor) -> Tensor:
    """Combine the detail of `images` with the low frequencies of `reference`, [B, 3, H, W]."""
    return images + low_frequencies(reference - images)


def adain(images: Tensor, reference: Tensor) -> Tensor:
    """Give `images` the channel means and deviations of `reference`, both [B, 3, H, W].

    Adaptive instance normalisation: Huang and Belongie, arXiv 1703.06868.
    """

    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True)
        return mean, (variance + 1e-5).sqrt()

    (mean, deviation), (target_mean, target_deviation) = statistics(images), statistics(reference)
    return (images - mean) / deviation * target_deviation + target_mean


def unchanged(images: Tensor, reference: Tensor) -> Tensor:
    """Return `images` unchanged."""
    del reference
    return images


@dataclass(frozen=True)
class Correction:
    """A colour correction.

    Attributes:
        correct: called with images and reference, both [B, 3, H, W], before they are clamped.
        reach: rows above and below that a row depends on; None if it depends on all of them.
    """

    correct: Callable[[Tensor, Tensor], Tensor]
    reach: int | None


FIXES: dict[ColourFix, Correction] = {
    "wavelet": Correction(wavelet, REACH),
    "adain": Correction(adain, None),
    "none": Correction(unchanged, 0),
}

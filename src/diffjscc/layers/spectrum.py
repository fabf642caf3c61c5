"""Gains over a latent's spatial frequencies: what neighbouring cells share costs less power."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Nodes at 2^-5, 2^-4 … 2^1 half-waves per cell; 2^-5 is what a mean over 16 cells counts as.
OCTAVES = 7
LOWEST = -5


def dct_matrix(side: int) -> Tensor:
    """The orthonormal DCT of `side` values, float64 [frequency, place]."""
    index = torch.arange(side, dtype=torch.float64)
    cosines = torch.cos(torch.pi * (2 * index + 1) * index[:, None] / (2 * side))
    return F.normalize(cosines, dim=1)


def octave_weights(frequency: Tensor) -> Tensor:
    """Weights [..., OCTAVES] that interpolate linearly in the octave of frequencies > 0."""
    place = (frequency.log2() - LOWEST).clamp(0, OCTAVES - 1)
    nodes = torch.arange(OCTAVES, device=frequency.device)
    return (1 - (place[..., None] - nodes).abs()).clamp(min=0)


class SpectralGain(nn.Module):
    """Scales the whole latent's DCT, per channel and spatial frequency; at first by 1.

    The transmitter thus lowers what is strong and predictable, and the receiver weighs what came
    against the noise, as the water-filling power allocation and the Wiener filter of a linear
    link would; the condition says how good the link is. The logarithm of the gain is the sum of
    functions of the horizontal, the vertical and the radial frequency.

    Args:
        channels: C.
        condition_width: width of the condition.
    """

    def __init__(self, channels: int, condition_width: int) -> None:
        super().__init__()
        self.log_gain = nn.Linear(condition_width, channels * 3 * OCTAVES)
        nn.init.zeros_(self.log_gain.weight)
        nn.init.zeros_(self.log_gain.bias)

    def gains(self, condition: Tensor, height: int, width: int) -> Tensor:
        """Gains [B, C, height, width] over vertical and horizontal frequency."""
        device = condition.device
        lowest = 0.5 / math.sqrt(height * width)  # a mean is not of frequency 0: images end
        rows = torch.arange(height, device=device) / height
        columns = torch.arange(width, device=device) / width
        radius = (rows.square()[:, None] + columns.square() + lowest**2).sqrt()
        vertical = (rows.square() + lowest**2).sqrt()
        horizontal = (columns.square() + lowest**2).sqrt()
        nodes = self.log_gain(condition).unflatten(1, (-1, 3, OCTAVES))
        log_gain = (
            torch.einsum("bco,hwo->bchw", nodes[:, :, 0], octave_weights(radius))
            + torch.einsum("bco,ho->bch", nodes[:, :, 1], octave_weights(vertical))[..., None]
            + torch.einsum("bco,wo->bcw", nodes[:, :, 2], octave_weights(horizontal))[:, :, None]
        )
        return log_gain.exp()

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Scale a whole image's latent [B, c, h, w], which has the first c of the channels."""
        channels, height, width = latent.shape[1:]
        gains = self.gains(condition, height, width)[:, :channels]
        down, across = (dct_matrix(side).to(latent) for side in (height, width))
        latent = latent.contiguous()
        scaled = down.T @ ((down @ latent @ across.T) * gains) @ across
        return scaled.contiguous(memory_format=torch.channels_last)

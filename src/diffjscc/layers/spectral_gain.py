"""Gains over the spatial frequencies of a latent.

Correlation between neighbouring latent positions shows as strong low frequencies; with gains
below 1 they cost less transmit power.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffjscc.layers.block_dct import dct_matrix

# Nodes at 2^-5, 2^-4 … 2^1 half-waves per latent position; the mean of 16 positions counts as 2^-5.
OCTAVES = 7
LOWEST = -5


def octave_weights(frequency: Tensor) -> Tensor:
    """Weights [..., OCTAVES] for linear interpolation over log2 of frequencies > 0."""
    place = (frequency.log2() - LOWEST).clamp(0, OCTAVES - 1)
    nodes = torch.arange(OCTAVES, device=frequency.device)
    return (1 - (place[..., None] - nodes).abs()).clamp(min=0)


class SpectralGain(nn.Module):
    """Gain on the DCT of a whole latent, per channel and spatial frequency; initially 1.

    At the transmitter it attenuates strong, predictable components; at the receiver it weights
    received components against the noise: what water-filling power allocation and the Wiener
    filter do on a linear link. The condition vector carries the link quality. The log gain is a
    sum of functions of the horizontal, the vertical and the radial frequency.

    Args:
        channels: latent channels C.
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
        least = 0.25 / (height * width)  # square of the frequency that the mean counts as
        rows = torch.arange(height, device=device) / height
        columns = torch.arange(width, device=device) / width
        radius = (rows.square()[:, None] + columns.square() + least).sqrt()
        vertical = (rows.square() + least).sqrt()
        horizontal = (columns.square() + least).sqrt()
        nodes = self.log_gain(condition).unflatten(1, (-1, 3, OCTAVES))
        log_gain = (
            torch.einsum("bco,hwo->bchw", nodes[:, :, 0], octave_weights(radius))
            + torch.einsum("bco,ho->bch", nodes[:, :, 1], octave_weights(vertical))[..., None]
            + torch.einsum("bco,wo->bcw", nodes[:, :, 2], octave_weights(horizontal))[:, :, None]
        )
        return log_gain.exp()

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Scale the latent [B, c, h, w] of a whole image; c ≤ C, the first c channels."""
        channels, height, width = latent.shape[1:]
        gains = self.gains(condition, height, width)[:, :channels]
        down, across = (dct_matrix(side).to(latent) for side in (height, width))
        latent = latent.contiguous()
        scaled = down.T @ ((down @ latent @ across.T) * gains) @ across
        return scaled.contiguous(memory_format=torch.channels_last)

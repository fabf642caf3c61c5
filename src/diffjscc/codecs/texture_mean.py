"""The texture map's mean over the image, sent as the phase of a pattern beneath one latent channel.

A network learns well which places of an image are calmer than others, and poorly how calm all of it
is: maps received on poor links are off by up to two octaves as a whole. One number puts that right.

The pattern is of signs that look random; positions where x + y is even carry the cosine of the
phase, the others its sine. It takes 1 % of the lowest rate's power. The channel's own component
along it is taken out first, two of h·w dimensions, so that nothing but noise disturbs the phase,
and the receiver takes the pattern out again before it decodes. A phase needs no reference: what
equalisers and shrinkage do to amplitudes leaves it as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffjscc.layers.texture import TYPICAL

SHARE = 0.01  # of the power
OCTAVES_PER_RADIAN = 1.6
LARGEST_PHASE = 2.5  # radians, for means from -2 to 6; the rest of the circle keeps the ends apart
LEAST = 256  # positions; of a smaller latent two dimensions and the mean's error are too large
PRIOR_DEVIATION = 0.8  # octaves, of the mean of received maps from the true mean, at R = 1/128
SIGNS = (1, 1, 1, 1, -1, 1, -1, 1, -1, -1, -1, 1, -1, -1, 1, 1)  # nearly white


class SentMean(NamedTuple):
    """A mean as it was received.

    Attributes:
        value: octaves, [B].
        weight: of `value` against a map's own mean, in [0, 1], [B]; 0 where none was sent.
    """

    value: Tensor
    weight: Tensor

    def correct(self, texture: Tensor) -> Tensor:
        """Shift received maps [B, 1, h, w] towards the mean that was sent."""
        shift = self.weight * (self.value - texture.mean(dim=(1, 2, 3)))
        return texture + shift[:, None, None, None]


def send_mean(latent: Tensor, texture: Tensor, channels: int) -> Tensor:
    """Put the mean of texture maps beneath latents.

    Args:
        latent: [B, C, h, w]; its first channel carries the pattern.
        texture: maps [B, 1, h, w] in octaves.
        channels: channels of the lowest rate, whose energy the pattern's is a share of.

    Returns:
        The latents [B, C, h, w], as they are with fewer than `LEAST` positions.
    """
    patterns, positions = _patterns(latent)
    first = latent[:, :1]
    clean = first - _spread(_components(first, patterns), patterns)
    energy = latent[:, :channels].square().sum(dim=(1, 2, 3))
    phase = (texture.mean(dim=(1, 2, 3)) - TYPICAL) / OCTAVES_PER_RADIAN
    phase = phase.clamp(-LARGEST_PHASE, LARGEST_PHASE)
    amplitude = (2 * SHARE * energy / positions).sqrt()
    carried = clean + _spread(amplitude[:, None] * _on_circle(phase), patterns)
    return torch.cat((torch.where(positions >= LEAST, carried, first), latent[:, 1:]), dim=1)


def receive_mean(latent: Tensor, snr_db: Tensor) -> tuple[Tensor, SentMean]:
    """Take the mean out of received latents.

    Args:
        latent: [B, C, h, w], of symbols of power 1.
        snr_db: Es/N0 [B] in dB.

    Returns:
        The latents without the pattern, and the mean. Its weight is that of the least squared
        error for a phase with the variance N0 / (h·w·amplitude²).
    """
    patterns, positions = _patterns(latent)
    first = latent[:, :1]
    components = _components(first, patterns)
    big = positions >= LEAST
    clean = torch.where(big, first - _spread(components, patterns), first)
    value = TYPICAL + OCTAVES_PER_RADIAN * torch.atan2(components[:, 1], components[:, 0])
    noise = 10 ** (-snr_db / 10)
    energy = positions * components.square().sum(dim=1)
    variance = OCTAVES_PER_RADIAN**2 * noise / energy.clamp(min=1e-6)
    weight = torch.where(big, PRIOR_DEVIATION**2 / (PRIOR_DEVIATION**2 + variance), 0.0)
    return torch.cat((clean, latent[:, 1:]), dim=1), SentMean(value, weight)


def _on_circle(phase: Tensor) -> Tensor:
    """Cosine and sine of [B], [B, 2]."""
    return torch.stack((phase.cos(), phase.sin()), dim=1)


def _patterns(latent: Tensor) -> tuple[Tensor, Tensor]:
    """Make both patterns [2, h, w] of a latent's size, and count its positions.

    The number is a tensor, so that a graph that is exported serves every size.
    """
    height, width = latent.shape[-2:]
    signs = torch.tensor(SIGNS, dtype=latent.dtype, device=latent.device)
    y = torch.arange(height, device=latent.device)[:, None]
    x = torch.arange(width, device=latent.device)[None, :]
    # Rows and columns at co-prime steps: the pattern repeats in neither direction alone.
    sign = signs[(3 * y + x) % len(SIGNS)] * signs[(y + 5 * x) % len(SIGNS)]
    even = ((x + y) % 2 == 0).to(latent.dtype)
    return torch.stack((sign * even, sign * (1 - even))), torch.ones_like(sign).sum()


def _components(first: Tensor, patterns: Tensor) -> Tensor:
    """Compute the components of a channel [B, 1, h, w] along both patterns, [B, 2]."""
    size = patterns.square().sum(dim=(1, 2)).clamp(min=1)
    return (first * patterns).sum(dim=(2, 3)) / size


def _spread(components: Tensor, patterns: Tensor) -> Tensor:
    """Lay components [B, 2] on their patterns, [B, 1, h, w]."""
    return (components[:, :, None, None] * patterns).sum(dim=1, keepdim=True)

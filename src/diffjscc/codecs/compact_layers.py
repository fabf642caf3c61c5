"""Layers of the compact codec, which both its ends are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.layers.texture import TYPICAL

if TYPE_CHECKING:
    from diffjscc.codecs.compact import CompactConfig

# Brings the map to the size of trained features (about 10) and latents (about 30).
TEXTURE_GAIN = 8.0
ALL = slice(None)


class Condition(nn.Module):
    """Embedding of SNR, rate and global latent statistics, one vector per image.

    The statistics are the mean and root mean square of each latent channel over the image. As
    symbols have unit power whatever the contrast, they inform the receiver about the image's
    dynamic range.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        width, channels = config.condition_width, config.rate_channels
        self.low, self.high = config.snr_range_db
        self.snr = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.rate = nn.Embedding(len(channels), width)
        self.statistics = nn.Linear(2 * max(channels), width)
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, latent: Tensor, snr_db: Tensor, rate_index: int) -> Tensor:
        """Embed latent [B, C_max, h, w], snr_db [B] and the rate's index as [B, width]."""
        centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        snr = (snr_db.clamp(self.low, self.high) - centre) / half
        power = latent.square().mean(dim=(2, 3))
        statistics = torch.cat((latent.mean(dim=(2, 3)), (power + 1e-6).sqrt()), dim=1)
        known = self.snr(snr[:, None]) + self.rate.weight[rate_index] + self.statistics(statistics)
        out: Tensor = self.out(known)
        return out


class Pointwise(nn.Linear):
    """A 1x1 convolution whose weight is a matrix, for optimisers of matrices."""

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, h, w] to [B, C', h, w]."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class Block(nn.Module):
    """Depthwise convolution, layer norm modulated by the condition, pointwise MLP, residual."""

    def __init__(self, width: int, kernel: int, expansion: int, condition_width: int) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.spatial = nn.Conv2d(width, width, kernel, padding=self.reach, groups=width)
        self.modulation = nn.Linear(condition_width, 2 * width)
        self.expand = Pointwise(width, expansion * width)
        self.project = Pointwise(expansion * width, width)
        for zeroed in (self.modulation, self.project):  # a new block is the identity
            nn.init.zeros_(zeroed.weight)
            assert zeroed.bias is not None
            nn.init.zeros_(zeroed.bias)

    def forward(self, x: Tensor, condition: Tensor, keep: slice = ALL) -> Tensor:
        """Transform rows `keep` of [B, width, h, w]."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        y = self.spatial(x)[..., keep, :].permute(0, 2, 3, 1)
        y = F.layer_norm(y, y.shape[-1:], eps=1e-6).permute(0, 3, 1, 2)
        y = y * (1 + scale) + shift
        out: Tensor = x[..., keep, :] + self.project(F.silu(self.expand(y)))
        return out


class Gains(nn.Module):
    """Positive gain per latent channel, computed from the condition; initially `start` [C]."""

    def __init__(self, start: Tensor, condition_width: int) -> None:
        super().__init__()
        self.log_gain = nn.Linear(condition_width, len(start))
        nn.init.zeros_(self.log_gain.weight)
        with torch.no_grad():
            self.log_gain.bias.copy_(start.log())

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Scale [B, C, h, w] per channel."""
        gain: Tensor = self.log_gain(condition).exp()
        return x * gain[:, :, None, None]


def scaled(texture: Tensor) -> Tensor:
    """Bring a texture map to the size of trained features."""
    return TEXTURE_GAIN * (texture - TYPICAL)


class TextureInput(nn.Module):
    """Contributions of the texture map to the encoder's features and to its latent; at first 0.

    A gain per latent channel depends on the condition: how much of the map a link can carry.
    """

    def __init__(self, width: int, channels: int, condition_width: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, width, 3, padding=1)
        self.gains = nn.Linear(condition_width, channels)
        for zeroed in (self.features, self.gains):
            nn.init.zeros_(zeroed.weight)
            assert zeroed.bias is not None
            nn.init.zeros_(zeroed.bias)

    def sent(self, texture: Tensor, condition: Tensor) -> Tensor:
        """Return what a map [B, 1, h, w] adds to the latent, [B, channels, h, w]."""
        gains: Tensor = self.gains(condition)[:, :, None, None]
        return gains * scaled(texture)

    def known(self, texture: Tensor, top: int, rows: int) -> Tensor:
        """Return what a map [B, 1, h, w] adds to some rows of the features, [B, width, rows, w]."""
        low = max(top - 1, 0)
        added: Tensor = self.features(scaled(texture[..., low : top + rows + 1, :]))
        return added[..., top - low : top - low + rows, :]


class TextureHead(nn.Module):
    """Texture map from features at 1/16 of the image size."""

    def __init__(self, width: int, kernel: int, expansion: int, condition_width: int) -> None:
        super().__init__()
        self.block = Block(width, kernel, expansion, condition_width)
        self.reach = self.block.reach
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor, condition: Tensor, keep: slice = ALL) -> Tensor:
        """Transform rows `keep` of [B, width, h, w] to the map [B, 1, …, w]."""
        out: Tensor = TYPICAL + self.head(self.block(x, condition, keep))
        return out

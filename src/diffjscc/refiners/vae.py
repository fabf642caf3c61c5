"""CompactVAE: images ↔ latents of the bundled prior, cheap enough for two CPU cores."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.layers.block_dct import SHALLOW, STRIDE, dct_basis

FINEST = 4  # pixels a side that the decoder's last layer makes at once
LATTICE_WINDOW = 25


class Block(nn.Module):
    """Depthwise convolution, layer norm, pointwise MLP, residual."""

    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Conv2d(width, expansion * width, 1)
        self.project = nn.Conv2d(expansion * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] to the same."""
        y = self.norm(self.spatial(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out: Tensor = x + self.project(F.silu(self.expand(y)))
        return out


class Encoder(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] to features [B, C, H/16, W/16]."""

    analysis: Tensor

    def __init__(
        self, channels: int, widths: tuple[int, int], blocks: tuple[int, int], kernel: int
    ) -> None:
        super().__init__()
        mid, deep = widths
        self.stem = nn.Conv2d(SHALLOW, mid, 3, stride=2, padding=1)
        self.mid = nn.Sequential(*(Block(mid, kernel, 2) for _ in range(blocks[0])))
        self.down = nn.Conv2d(mid, deep, 3, stride=2, padding=1)
        self.deep = nn.Sequential(*(Block(deep, kernel, 2) for _ in range(blocks[1])))
        self.head = nn.Conv2d(deep, channels, 1)
        basis, deviation = dct_basis(channels, STRIDE)
        analysis = basis.flatten(1) / deviation[:, None]
        self.register_buffer("analysis", analysis[:, :, None, None], persistent=False)
        self.gains = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        coefficients = F.conv2d(F.pixel_unshuffle(images, STRIDE), self.analysis)
        x = self.mid(self.stem(F.pixel_unshuffle(images, 4)))
        features: Tensor = self.gains * coefficients + self.head(self.deep(self.down(x)))
        return features


def _mean(x: Tensor, side: int) -> Tensor:
    """Mean over windows of side x side positions, odd, cut at the borders."""
    return F.avg_pool2d(x, side, stride=1, padding=side // 2, count_include_pad=False)


def without_lattice(pixels: Tensor) -> Tensor:
    """Images without what repeats every `FINEST` pixels over `LATTICE_WINDOW` such squares.

    A layer that makes squares of 4x4 pixels at once leaves a faint lattice in flat areas. What
    pixels at one place of their squares have in common, beyond their 9x9 surroundings, is taken
    away; photographs change by about one level of 255.

    Args:
        pixels: [B, 3, H, W], sides multiples of `FINEST`.
    """
    fine = F.pixel_unshuffle(pixels - _mean(pixels, 9), FINEST)
    common = _mean(fine, LATTICE_WINDOW)
    phases = common.view(len(common), 3, FINEST**2, *common.shape[-2:])
    lattice = (phases - phases.mean(dim=2, keepdim=True)).flatten(1, 2)
    return pixels - F.pixel_shuffle(lattice, FINEST)


class Decoder(nn.Module):
    """Latent [B, C, h, w] to images [B, 3, 16h, 16w], about [-1, 1]."""

    synthesis: Tensor

    def __init__(
        self,
        channels: int,
        widths: tuple[int, int],
        blocks: tuple[int, int, int],
        kernel: int,
        fine: int,
    ) -> None:
        super().__init__()
        mid, deep = widths
        self.stem = nn.Conv2d(channels, deep, 3, padding=1)
        self.deep = nn.Sequential(*(Block(deep, kernel, 2) for _ in range(blocks[0])))
        self.up_mid = nn.Conv2d(deep, 4 * mid, 1)
        self.mid = nn.Sequential(*(Block(mid, kernel, 2) for _ in range(blocks[1])))
        self.up_shallow = nn.Conv2d(mid, 4 * SHALLOW, 1)
        self.up_fine = nn.Conv2d(mid, 4 * fine, 1)
        self.fine_in = nn.Conv2d(SHALLOW, fine, 1)
        self.fine = nn.Sequential(*(Block(fine, kernel, 2) for _ in range(blocks[2])))
        self.fine_out = nn.Conv2d(fine, SHALLOW, 1)
        self.shallow = nn.Conv2d(SHALLOW, SHALLOW, 3, padding=1)
        self.head = nn.Conv2d(SHALLOW, SHALLOW, 3, padding=1)
        basis, deviation = dct_basis(channels, STRIDE)
        synthesis = (basis.flatten(1) * deviation[:, None]).T
        self.register_buffer("synthesis", synthesis[:, :, None, None], persistent=False)
        self.gains = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, latent: Tensor) -> Tensor:
        """See the class."""
        blocks = F.pixel_shuffle(F.conv2d(self.gains * latent, self.synthesis), STRIDE)
        mid = self.mid(F.pixel_shuffle(self.up_mid(self.deep(self.stem(latent))), 2))
        x = F.pixel_shuffle(self.up_shallow(mid), 2) + F.pixel_unshuffle(blocks, FINEST)
        x = x + self.fine_out(self.fine(F.pixel_shuffle(self.up_fine(mid), 2) + self.fine_in(x)))
        x = x + F.silu(self.shallow(x))
        return without_lattice(F.pixel_shuffle(self.head(x), FINEST))


class Standardised(nn.Module):
    """Features [B, C, h, w] to moments [B, 2C, h, w]: zero mean, unit variance, fixed deviation.

    A batch norm without scale: in training by the batch's mean and variance, else by their
    running averages.

    Args:
        channels: C.
        deviation: standard deviation of the posterior, in units of the latent's own.
        momentum: weight of a batch in the running averages.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, deviation: float, momentum: float = 0.01) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.log_variance = 2 * math.log(deviation)
        self.momentum = momentum

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        mean = F.batch_norm(
            features,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self.momentum,
        )
        return torch.cat((mean, torch.full_like(mean, self.log_variance)), dim=1)


class CompactVAE(ModelMixin, ConfigMixin):
    """A VAE of the compact codec's design: 16x16 pixels to a cell, one convolutional pass.

    A DCT of 16x16 blocks and a deep network are added at both ends, as in `CompactJSCC`. Latents
    have zero mean and unit variance per channel over the training images, which is what the
    prior's noise is measured against. Parts that diffusers' `AutoencoderKL` has too are named
    and called as there.

    Args:
        latent_channels: channels C of the latent.
        widths: feature channels at 1/8 and 1/16 of the image's size.
        encoder_blocks: blocks of the encoder at 1/8 and 1/16.
        decoder_blocks: blocks of the decoder at 1/16, 1/8 and 1/4.
        fine_width: feature channels of the decoder at 1/4, where textures are made.
        kernel: side of the depthwise convolutions.
        deviation: standard deviation of the posterior; the decoder is trained to bear it.
        scaling_factor: what latents are multiplied by.
    """

    @register_to_config
    def __init__(
        self,
        *,
        latent_channels: int = 16,
        widths: tuple[int, int] = (112, 224),
        encoder_blocks: tuple[int, int] = (2, 4),
        decoder_blocks: tuple[int, int, int] = (10, 6, 4),
        fine_width: int = 96,
        kernel: int = 5,
        deviation: float = 0.1,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        del scaling_factor  # read from self.config
        shape = (latent_channels, widths)
        self.encoder = Encoder(*shape, encoder_blocks, kernel)
        self.quant_conv = Standardised(latent_channels, deviation)
        self.decoder = Decoder(*shape, decoder_blocks, kernel, fine_width)

    def decode(self, latent: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        """Latent [B, C, h, w], not scaled, to images [B, 3, 16h, 16w] about [-1, 1]."""
        del return_dict  # always a tuple; the argument is AutoencoderKL's
        return (self.decoder(latent),)


VAE: TypeAlias = AutoencoderKL | CompactVAE
VAES: tuple[type[VAE], ...] = (AutoencoderKL, CompactVAE)

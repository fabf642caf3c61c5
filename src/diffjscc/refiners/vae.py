"""CompactVAE: the VAE of the bundled prior, small enough for two CPU cores."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.layers.banding import RowQueue, Stage, run, whole
from diffjscc.layers.block_dct import SHALLOW, STRIDE, dct_basis
from diffjscc.layers.local_mean import local_mean
from diffjscc.layers.texture import fine_scales
from diffjscc.refiners.library import AutoencoderKL, ConfigMixin, ModelMixin, register_to_config

FINEST = 4  # side in pixels of the squares that the decoder's last layer outputs
LATTICE_WINDOW = 25
LATTICE_REACH = LATTICE_WINDOW // 2 + 1  # squares above and below that `without_lattice` reads
ALL = slice(None)


class Block(nn.Module):
    """Depthwise convolution, layer norm, pointwise MLP, residual."""

    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.spatial = nn.Conv2d(width, width, kernel, padding=self.reach, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Conv2d(width, expansion * width, 1)
        self.project = nn.Conv2d(expansion * width, width, 1)

    def forward(self, x: Tensor, keep: slice = ALL) -> Tensor:
        """Transform rows `keep` of [B, width, h, w]."""
        y = self.norm(self.spatial(x)[..., keep, :].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out: Tensor = x[..., keep, :] + self.project(F.silu(self.expand(y)))
        return out


def block_stages(blocks: nn.Sequential) -> list[Stage]:
    """List blocks as stages of `banding`."""

    def stage(block: Block) -> Stage:
        return Stage(lambda x, keep, _: block(x, keep), block.reach)

    return [stage(block) for block in blocks if isinstance(block, Block)]


class Encoder(nn.Module):
    """Encoder: images [B, 3, H, W] in [-1, 1] to features [B, C, H/16, W/16]."""

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
        height = images.shape[-2]
        return self.encode(lambda rows: images[..., rows, :], height, height)

    def encode(self, source: Callable[[slice], Tensor], height: int, band: int) -> Tensor:
        """Encode images, of which `source` makes rows, in bands of so many rows."""

        def stem(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            features: Tensor = self.stem(F.pixel_unshuffle(x, 4))
            return features[..., keep, :]

        def down(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            features: Tensor = self.down(x)
            return features[..., keep, :]

        network = [
            Stage(stem, reach=1, step=STRIDE // 2),
            *block_stages(self.mid),
            Stage(down, reach=1, step=2),
            *block_stages(self.deep),
            Stage(lambda x, keep, _: self.head(x[..., keep, :])),
        ]
        transform = Stage(lambda x, *_: F.conv2d(F.pixel_unshuffle(x, STRIDE), self.analysis))
        size = height, height // STRIDE
        coefficients = run([transform], source, size, band, "reading the codec's image")
        deep = run(network, source, size, band, "encoding the codec's image")
        return self.gains * coefficients + deep


def without_lattice(pixels: Tensor) -> Tensor:
    """Remove patterns that repeat every `FINEST` pixels over `LATTICE_WINDOW` periods.

    A layer that outputs squares of 4x4 pixels leaves a faint lattice in flat areas. The local mean
    over pixels of the same phase (position in the square), relative to their 9x9 neighbourhood, is
    subtracted; photographs change by about one level of 255.

    Args:
        pixels: [B, 3, H, W], sides multiples of `FINEST`.
    """
    fine = F.pixel_unshuffle(fine_scales(pixels), FINEST)
    common = local_mean(fine, LATTICE_WINDOW)
    phases = common.view(-1, 3, FINEST**2, *common.shape[-2:])
    lattice = (phases - phases.mean(dim=2, keepdim=True)).flatten(1, 2)
    return pixels - F.pixel_shuffle(lattice, FINEST)


class Decoder(nn.Module):
    """Decoder: latents [B, C, h, w] to images [B, 3, 16h, 16w] in about [-1, 1]."""

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

    def stages(self, latent: Tensor) -> list[Stage]:
        """List the network from whole latents to images."""
        passing = RowQueue()  # features beside the fine blocks

        def stem(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            features: Tensor = self.stem(x)
            return features[..., keep, :]

        def up(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            return F.pixel_shuffle(self.up_mid(x[..., keep, :]), 2)

        def begin_fine(x: Tensor, keep: slice, top: int) -> Tensor:
            """Add the inverse DCT, at 1/4 of the image size; two rows of `x` a latent row."""
            del keep
            first, last = top // 2, -(-(top + x.shape[-2]) // 2)
            coefficients = self.gains * latent[..., first:last, :]
            blocks = F.pixel_shuffle(F.conv2d(coefficients, self.synthesis), STRIDE)
            skipped = 2 * (top - 2 * first)
            parts = F.pixel_unshuffle(blocks, FINEST)
            shallow = F.pixel_shuffle(self.up_shallow(x), 2)
            shallow = shallow + parts[..., skipped : skipped + 2 * x.shape[-2], :]
            passing.put(shallow)
            features: Tensor = F.pixel_shuffle(self.up_fine(x), 2) + self.fine_in(shallow)
            return features

        def end_fine(x: Tensor, keep: slice, top: int) -> Tensor:
            del keep, top
            features: Tensor = passing.take(x.shape[-2]) + self.fine_out(x)
            return features

        def shallow(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            return x[..., keep, :] + F.silu(self.shallow(x)[..., keep, :])

        def head(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            return F.pixel_shuffle(self.head(x)[..., keep, :], FINEST)

        def even(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            if keep == ALL:
                return without_lattice(x)
            rows = slice(FINEST * keep.start, FINEST * keep.stop)
            # Means over windows take eight times as long on another layout.
            x = x.contiguous(memory_format=torch.channels_last)
            return without_lattice(x)[..., rows, :]

        return [
            Stage(stem, reach=1),
            *block_stages(self.deep),
            Stage(up),
            *block_stages(self.mid),
            Stage(begin_fine),
            *block_stages(self.fine),
            Stage(end_fine),
            Stage(shallow, reach=1),
            Stage(head, reach=1),
            Stage(even, reach=LATTICE_REACH, step=FINEST),
        ]

    def forward(self, latent: Tensor) -> Tensor:
        """See the class."""
        return whole(self.stages(latent), latent)


class Standardised(nn.Module):
    """Moments [B, 2C, h, w] of the posterior from features: standardised mean, fixed deviation.

    A batch norm without scale and shift: it uses the batch's mean and variance in training, and
    their running averages otherwise.

    Args:
        channels: C.
        deviation: standard deviation of the posterior, relative to that of the latent.
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
    """Convolutional VAE with 16x16 pixels per latent position, designed as the compact codec.

    Encoder and decoder are sums of a DCT of 16x16 blocks and a deep network, as in `CompactJSCC`.
    Over the training images, latents have zero mean and unit variance per channel, as the prior's
    noise schedule assumes. Names and calls are those of diffusers' `AutoencoderKL`.

    Args:
        latent_channels: channels C of the latent.
        widths: feature channels at 1/8 and 1/16 of the image size.
        encoder_blocks: blocks of the encoder at 1/8 and 1/16.
        decoder_blocks: blocks of the decoder at 1/16, 1/8 and 1/4.
        fine_width: feature channels of the decoder at 1/4, which generates textures.
        kernel: side of the depthwise convolutions.
        deviation: standard deviation of the posterior in training; the decoder tolerates it.
        scaling_factor: factor on latents.
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
        """Decode unscaled latents [B, C, h, w] to images [B, 3, 16h, 16w] in about [-1, 1]."""
        del return_dict  # always a tuple; the argument is AutoencoderKL's
        return (self.decoder(latent),)


VAE: TypeAlias = AutoencoderKL | CompactVAE
VAES: tuple[type[VAE], ...] = (AutoencoderKL, CompactVAE)

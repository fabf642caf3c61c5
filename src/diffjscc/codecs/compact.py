"""CompactJSCC: one small network for four rates and every SNR, made for two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.layers.halo_tiles import in_tiles
from diffjscc.layers.spectrum import SpectralGain, dct_matrix
from diffjscc.scheme import ChannelState

STRIDE = 16
SHALLOW = 3 * 4**2  # at 1/4 of the size, features are 4x4 pixels of three colours
TILE, HALO = 64, 36  # cells: 1024 px tiles; the encoder reaches 22 cells, the decoder 33


@dataclass(frozen=True)
class CompactConfig:
    """Architecture of `CompactJSCC`.

    Attributes:
        rate_channels: latent channels of each rate, ascending; C channels cost C/512 cpp.
        widths: feature channels at 1/8 and 1/16 of the image's size.
        encoder_blocks: blocks of the encoder at 1/8 and 1/16.
        decoder_blocks: blocks of the decoder at 1/16 and 1/8.
        expansion: hidden width of a block's pointwise MLP, in multiples of its width.
        kernel: side of a block's depthwise convolution.
        condition_width: width of the embedding of (SNR, rate).
        snr_range_db: SNR the weights were trained for; inputs are clamped to it.
    """

    rate_channels: tuple[int, ...] = (4, 8, 16, 32)
    widths: tuple[int, int] = (112, 224)
    encoder_blocks: tuple[int, int] = (4, 8)
    decoder_blocks: tuple[int, int] = (12, 6)
    expansion: int = 2
    kernel: int = 5
    condition_width: int = 64
    snr_range_db: tuple[float, float] = (-5.0, 20.0)


class Condition(nn.Module):
    """Embeds what an end knows of the whole image and the link, as one vector per image.

    That is the SNR, the rate, and each latent channel's mean and root mean square over the
    image: symbols have unit power whatever the contrast, so without the latter the receiver
    could not tell how strong the image was.
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
        """Latent [B, C_max, h, w], snr_db [B] and the rate's position to [B, width]."""
        centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        snr = (snr_db.clamp(self.low, self.high) - centre) / half
        power = latent.square().mean(dim=(2, 3))
        statistics = torch.cat((latent.mean(dim=(2, 3)), (power + 1e-6).sqrt()), dim=1)
        known = self.snr(snr[:, None]) + self.rate.weight[rate_index] + self.statistics(statistics)
        out: Tensor = self.out(known)
        return out


class Pointwise(nn.Linear):
    """A 1x1 convolution; its weight is the matrix that it is, as optimisers of matrices need."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h, w]."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class Block(nn.Module):
    """Depthwise convolution, layer norm modulated by the condition, pointwise MLP, residual."""

    def __init__(self, width: int, kernel: int, expansion: int, condition_width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.modulation = nn.Linear(condition_width, 2 * width)
        self.expand = Pointwise(width, expansion * width)
        self.project = Pointwise(expansion * width, width)
        for zeroed in (self.modulation, self.project):  # a new block is the identity
            nn.init.zeros_(zeroed.weight)
            assert zeroed.bias is not None
            nn.init.zeros_(zeroed.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[B, width, h, w] to the same."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        y = self.spatial(x).permute(0, 2, 3, 1)
        y = F.layer_norm(y, y.shape[-1:], eps=1e-6).permute(0, 3, 1, 2)
        y = y * (1 + scale) + shift
        out: Tensor = x + self.project(F.silu(self.expand(y)))
        return out


def dct_basis(count: int, side: int) -> tuple[Tensor, Tensor]:
    """The `count` strongest functions of the block DCT of natural photographs.

    In orthonormal colours (sum, red - blue, green against both), its first 32 functions catch
    within 0.1% the variance that the Karhunen-Loève transform's do. Variances are modelled as
    a·(u² + v²)^-b per colour, fitted to 60,000 blocks of 16x16 of training photographs.

    Returns:
        Orthonormal functions [count, 3, side, side], and their standard deviations [count] for
        images in [0, 1], descending.
    """
    index = torch.arange(side, dtype=torch.float64)
    cosines = dct_matrix(side)
    colours = F.normalize(
        torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64), dim=1
    )
    radius = index.square() + index.square()[:, None]
    variances = []
    for constant, amplitude, decay in ((42.1, 1.71, 1.11), (4.77, 0.25, 1.84), (0.96, 0.06, 1.65)):
        variance = amplitude * radius.clamp(min=1) ** -decay
        variance[0, 0] = constant
        variances.append(variance)
    ranked = torch.stack(variances).flatten().sort(descending=True, stable=True)
    colour, row, column = torch.unravel_index(ranked.indices[:count], (3, side, side))
    basis = torch.einsum("kc,ky,kx->kcyx", colours[colour], cosines[row], cosines[column])
    return basis.float(), ranked.values[:count].sqrt().float()


class Gains(nn.Module):
    """A positive gain per latent channel from the condition; `start` [C] at first."""

    def __init__(self, start: Tensor, condition_width: int) -> None:
        super().__init__()
        self.log_gain = nn.Linear(condition_width, len(start))
        nn.init.zeros_(self.log_gain.weight)
        with torch.no_grad():
            self.log_gain.bias.copy_(start.log())

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Scale [B, C, h, w]."""
        gain: Tensor = self.log_gain(condition).exp()
        return x * gain[:, :, None, None]


class Encoder(nn.Module):
    """Image [B, 3, H, W] in [0, 1] to latent [B, C, H/16, W/16], C that of the rate.

    A DCT of 16x16 blocks and a deep network are added. The DCT starts with the channel powers
    that are best for a linear receiver (in proportion to the deviations), the network at zero:
    without the DCT, the small components that the high rates are for take far longer to be found.
    """

    analysis: Tensor

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        mid, deep = config.widths
        shape = (config.kernel, config.expansion, config.condition_width)
        self.condition = Condition(config)
        self.channels = config.rate_channels
        self.stem = nn.Conv2d(SHALLOW, mid, 3, stride=2, padding=1)
        self.mid = nn.ModuleList(Block(mid, *shape) for _ in range(config.encoder_blocks[0]))
        self.down = nn.Conv2d(mid, deep, 3, stride=2, padding=1)
        self.deep = nn.ModuleList(Block(deep, *shape) for _ in range(config.encoder_blocks[1]))
        self.head = nn.Conv2d(deep, max(self.channels), 1)
        basis, deviation = dct_basis(max(self.channels), STRIDE)
        analysis = basis.flatten(1) / deviation.sqrt()[:, None]
        self.register_buffer("analysis", analysis[:, :, None, None], persistent=False)
        self.gains = Gains(torch.ones(len(basis)), config.condition_width)
        self.spectrum = SpectralGain(len(basis), config.condition_width)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def transform(self, images: Tensor) -> Tensor:
        """Block DCT coefficients [B, C_max, H/16, W/16] at their starting powers."""
        return F.conv2d(F.pixel_unshuffle(2 * images - 1, STRIDE), self.analysis)

    def describe(self, images: Tensor, snr_db: Tensor, rate_index: int) -> Tensor:
        """The condition, from the whole image and SNRs [B]."""
        condition: Tensor = self.condition(self.transform(images), snr_db, rate_index)
        return condition

    def forward(self, images: Tensor, condition: Tensor, rate_index: int) -> Tensor:
        """The latent of an image, or of a tile of it."""
        x = self.stem(F.pixel_unshuffle(2 * images - 1, 4))
        for block in self.mid:
            x = block(x, condition)
        x = self.down(x)
        for block in self.deep:
            x = block(x, condition)
        latent: Tensor = self.gains(self.transform(images), condition) + self.head(x)
        return latent[:, : self.channels[rate_index]]


class Decoder(nn.Module):
    """Received latent [B, C, h, w] to image [B, 3, 16h, 16w], not clamped.

    The inverse DCT joins the deep network at 1/4 of the image's size, before the last
    convolutions, which take its block borders away.
    """

    synthesis: Tensor

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        mid, deep = config.widths
        shape = (config.kernel, config.expansion, config.condition_width)
        self.condition = Condition(config)
        self.widest = max(config.rate_channels)
        self.stem = nn.Conv2d(self.widest, deep, 3, padding=1)
        self.deep = nn.ModuleList(Block(deep, *shape) for _ in range(config.decoder_blocks[0]))
        self.up_mid = Pointwise(deep, 4 * mid)
        self.mid = nn.ModuleList(Block(mid, *shape) for _ in range(config.decoder_blocks[1]))
        self.up_shallow = Pointwise(mid, 4 * SHALLOW)
        self.shallow = nn.Conv2d(SHALLOW, SHALLOW, 3, padding=1)
        self.head = nn.Conv2d(SHALLOW, SHALLOW, 3, padding=1)
        basis, deviation = dct_basis(self.widest, STRIDE)
        self.register_buffer("synthesis", basis.flatten(1).T[:, :, None, None], persistent=False)
        self.gains = Gains((deviation * deviation.mean() * 4).sqrt(), config.condition_width)
        self.spectrum = SpectralGain(self.widest, config.condition_width)
        nn.init.dirac_(self.head.weight)
        for zeroed in (self.up_shallow.weight, self.up_shallow.bias, self.head.bias):
            assert zeroed is not None
            nn.init.zeros_(zeroed)

    def widen(self, latent: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C_max, h, w]: the channels that the rate does not use are zero."""
        return F.pad(latent, (0, 0, 0, 0, 0, self.widest - latent.shape[1]))

    def describe(self, latent: Tensor, snr_db: Tensor, rate_index: int) -> Tensor:
        """The condition, from the whole received latent and SNRs [B]."""
        condition: Tensor = self.condition(self.widen(latent), snr_db, rate_index)
        return condition

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The image of a latent, or of a tile of it."""
        latent = self.widen(latent)
        coefficients = self.gains(latent, condition)
        blocks = F.pixel_shuffle(F.conv2d(coefficients, self.synthesis), STRIDE)
        x = self.stem(latent)
        for block in self.deep:
            x = block(x, condition)
        x = F.pixel_shuffle(self.up_mid(x), 2)
        for block in self.mid:
            x = block(x, condition)
        x = F.pixel_shuffle(self.up_shallow(x), 2) + F.pixel_unshuffle(blocks, 4)
        x = x + F.silu(self.shallow(x))
        return (F.pixel_shuffle(self.head(x), 4) + 1) / 2


class CompactJSCC(JointCodec):
    """A rate- and SNR-adaptive codec of 6.0 M parameters: R = 1/128, 1/64, 1/32, 1/16.

    A rate uses the first C latent channels; SNR and rate modulate every block of both ends.
    Apart from two global figures per channel and a filter of the whole latent, every layer is
    local, so images of any size are coded in tiles that give, to rounding, what the whole
    image would.

    Args:
        config: the architecture.
        parts: which ends to build.
    """

    stride = STRIDE
    encoder: Encoder | None
    decoder: Decoder | None

    def __init__(self, config: CompactConfig, parts: Parts = "both") -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config) if parts != "receiver" else None
        self.decoder = Decoder(config) if parts != "transmitter" else None
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    @property
    def channels(self) -> tuple[int, ...]:
        """Latent channels of each rate."""
        channels: tuple[int, ...] = self.config.rate_channels
        return channels

    def analyse(self, images: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.analyse`; of the CSI the effective SNR alone matters."""
        assert self.encoder is not None
        encoder = self.encoder
        images = images.contiguous(memory_format=torch.channels_last)
        condition = encoder.describe(images, csi.snr_db, rate_index)
        latent = in_tiles(
            lambda part: encoder(part, condition, rate_index),
            images,
            STRIDE,
            Fraction(1, STRIDE),
            TILE,
            HALO,
        )
        shaped: Tensor = encoder.spectrum(latent, condition)
        return shaped

    def synthesise(self, latent: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.synthesise`."""
        assert self.decoder is not None
        decoder = self.decoder
        latent = latent.contiguous(memory_format=torch.channels_last)
        condition = decoder.describe(latent, csi.snr_db, rate_index)
        latent = decoder.spectrum(latent, condition)
        return in_tiles(
            lambda part: decoder(part, condition),
            latent,
            1,
            Fraction(STRIDE),
            TILE,
            HALO,
        )

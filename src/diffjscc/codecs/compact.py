"""CompactJSCC: one small network for four rates and all SNRs, for two CPU cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.codecs.joint import JointCodec, Parts, check_parts
from diffjscc.codecs.ranges import BLOCKS, WIDTH, check_numbers, check_odd, check_snr_range
from diffjscc.data.geometry import crop
from diffjscc.layers.block_dct import SHALLOW, STRIDE, dct_basis
from diffjscc.layers.spectral_gain import SpectralGain
from diffjscc.layers.texture import texture_map
from diffjscc.layers.tiling import apply_tiled
from diffjscc.symbols import ChannelState, Received

# log2 of levels, about the mean of photographs: where the texture map is centred.
TYPICAL_TEXTURE = 2.0
# Brings the map to the size of trained features (about 10) and latents (about 30).
TEXTURE_GAIN = 8.0

# In latent positions: tiles of 1024 px; the receptive fields reach 22 (encoder) and 33 (decoder).
TILE, HALO = 64, 36
LARGE = 4_194_304  # pixels of an image whose DCT is computed in bands of rows


@dataclass(frozen=True)
class CompactConfig:
    """Architecture of `CompactJSCC`.

    Attributes:
        rate_channels: latent channels of each rate, ascending; C channels cost C/512 cpp.
        widths: feature channels at 1/8 and 1/16 of the image size.
        encoder_blocks: blocks of the encoder at 1/8 and 1/16.
        decoder_blocks: blocks of the decoder at 1/16 and 1/8.
        expansion: hidden width of a block's pointwise MLP, in multiples of its width.
        kernel: side of a block's depthwise convolution.
        condition_width: width of the embedding of (SNR, rate).
        snr_range_db: SNR range of training in dB; inputs are clamped to it.
        texture: whether the symbols also convey the texture map, see `layers.texture`.
    """

    rate_channels: tuple[int, ...] = (4, 8, 16, 32)
    widths: tuple[int, int] = (112, 224)
    encoder_blocks: tuple[int, int] = (4, 8)
    decoder_blocks: tuple[int, int] = (12, 6)
    expansion: int = 2
    kernel: int = 5
    condition_width: int = 64
    snr_range_db: tuple[float, float] = (-5.0, 20.0)
    texture: bool = False

    def __post_init__(self) -> None:
        most = 3 * STRIDE**2  # functions of the block DCT
        check_numbers(
            self,
            {
                "rate_channels": (2, most),
                "widths": WIDTH,
                "encoder_blocks": BLOCKS,
                "decoder_blocks": BLOCKS,
                "expansion": (1, 16),
                "kernel": (1, 31),
                "condition_width": WIDTH,
            },
        )
        channels = self.rate_channels
        if any(c % 2 for c in channels) or sorted(set(channels)) != list(channels):
            raise ValueError(
                f"rate_channels is {list(channels)}; two make a symbol: give even numbers, each "
                "larger than the one before"
            )
        check_odd("kernel", self.kernel)
        check_snr_range(self.snr_range_db)


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
        self.spatial = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.modulation = nn.Linear(condition_width, 2 * width)
        self.expand = Pointwise(width, expansion * width)
        self.project = Pointwise(expansion * width, width)
        for zeroed in (self.modulation, self.project):  # a new block is the identity
            nn.init.zeros_(zeroed.weight)
            assert zeroed.bias is not None
            nn.init.zeros_(zeroed.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Transform [B, width, h, w] to the same shape."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        y = self.spatial(x).permute(0, 2, 3, 1)
        y = F.layer_norm(y, y.shape[-1:], eps=1e-6).permute(0, 3, 1, 2)
        y = y * (1 + scale) + shift
        out: Tensor = x + self.project(F.silu(self.expand(y)))
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

    def forward(self, texture: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a map [B, 1, h, w] adds: [B, width, h, w] and [B, channels, h, w]."""
        scaled = TEXTURE_GAIN * (texture - TYPICAL_TEXTURE)
        return self.features(scaled), self.gains(condition)[:, :, None, None] * scaled


class TextureHead(nn.Module):
    """Texture map from features at 1/16 of the image size."""

    def __init__(self, width: int, kernel: int, expansion: int, condition_width: int) -> None:
        super().__init__()
        self.block = Block(width, kernel, expansion, condition_width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Transform [B, width, h, w] to the map [B, 1, h, w]."""
        out: Tensor = TYPICAL_TEXTURE + self.head(self.block(x, condition))
        return out


class Encoder(nn.Module):
    """Encoder: images [B, 3, H, W] in [0, 1] to latent [B, C, H/16, W/16], C that of the rate.

    Sum of a DCT of 16x16 blocks and a deep network. The DCT is initialised with the channel powers
    that are optimal for a linear receiver (proportional to the deviations), the network with zero:
    without the DCT, the weak components used by the high rates are learnt far more slowly.
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
        self.texture: TextureInput | None = None
        if config.texture:
            self.texture = TextureInput(deep, max(self.channels), config.condition_width)
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
        """Compute block DCT coefficients [B, C_max, H/16, W/16] at their initial powers."""
        height, width = images.shape[-2:]
        band = height if height * width <= LARGE else STRIDE * max(1, LARGE // (STRIDE * width))
        parts = [
            F.conv2d(
                F.pixel_unshuffle(2 * images[..., top : top + band, :] - 1, STRIDE), self.analysis
            )
            for top in range(0, height, band)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def describe(self, images: Tensor, snr_db: Tensor, rate_index: int) -> Tensor:
        """Compute the condition from whole images and SNRs [B]."""
        condition: Tensor = self.condition(self.transform(images), snr_db, rate_index)
        return condition

    def forward(self, images: Tensor, condition: Tensor, rate_index: int) -> Tensor:
        """Encode an image, or a tile of one."""
        x = self.stem(F.pixel_unshuffle(2 * images - 1, 4))
        for block in self.mid:
            x = block(x, condition)
        x = self.down(x)
        sent: Tensor | float = 0.0
        if self.texture is not None:
            known, sent = self.texture(texture_map(images, STRIDE), condition)
            x = x + known
        for block in self.deep:
            x = block(x, condition)
        latent: Tensor = self.gains(self.transform(images), condition) + self.head(x) + sent
        return latent[:, : self.channels[rate_index]]


class Decoder(nn.Module):
    """Decoder: received latent [B, C, h, w] to images [B, 3, 16h, 16w], not clamped.

    The inverse DCT is added to the deep network at 1/4 of the image size, before the last
    convolutions, which remove its block borders.
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
        self.texture = TextureHead(deep, *shape) if config.texture else None
        nn.init.dirac_(self.head.weight)
        for zeroed in (self.up_shallow.weight, self.up_shallow.bias, self.head.bias):
            assert zeroed is not None
            nn.init.zeros_(zeroed)

    def widen(self, latent: Tensor) -> Tensor:
        """Pad [B, C, h, w] to [B, C_max, h, w]: channels not used by the rate are zero."""
        return F.pad(latent, (0, 0, 0, 0, 0, self.widest - latent.shape[1]))

    def describe(self, latent: Tensor, snr_db: Tensor, rate_index: int) -> Tensor:
        """Compute the condition from whole received latents and SNRs [B]."""
        condition: Tensor = self.condition(self.widen(latent), snr_db, rate_index)
        return condition

    def features(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Compute features [B, deep, h, w] of a latent, or a tile of one."""
        x: Tensor = self.stem(self.widen(latent))
        for block in self.deep:
            x = block(x, condition)
        return x

    def images(self, x: Tensor, latent: Tensor, condition: Tensor) -> Tensor:
        """Decode `features` and their latent to images."""
        coefficients = self.gains(self.widen(latent), condition)
        blocks = F.pixel_shuffle(F.conv2d(coefficients, self.synthesis), STRIDE)
        x = F.pixel_shuffle(self.up_mid(x), 2)
        for block in self.mid:
            x = block(x, condition)
        x = F.pixel_shuffle(self.up_shallow(x), 2) + F.pixel_unshuffle(blocks, 4)
        x = x + F.silu(self.shallow(x))
        return (F.pixel_shuffle(self.head(x), 4) + 1) / 2

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Decode a latent, or a tile of one."""
        return self.images(self.features(latent, condition), latent, condition)

    def with_texture(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Decode as `forward` does; the texture map, enlarged, is a fourth channel."""
        assert self.texture is not None
        x = self.features(latent, condition)
        texture = F.interpolate(self.texture(x, condition), scale_factor=float(STRIDE))
        images = self.images(x, latent, condition)
        return torch.cat((images, texture.to(images)), dim=1)


class CompactJSCC(JointCodec):
    """A rate- and SNR-adaptive codec of 6.0 M parameters: R = 1/128, 1/64, 1/32, 1/16.

    A rate uses the first C latent channels; SNR and rate modulate every block of both ends.
    Apart from two global statistics per channel and the spectral gain of the whole latent, all
    layers are local: images of any size are coded in tiles, with the same result to rounding.

    Args:
        config: the architecture.
        parts: which ends to build.
    """

    stride = STRIDE
    encoder: Encoder | None
    decoder: Decoder | None

    def __init__(self, config: CompactConfig, parts: Parts = "both") -> None:
        check_parts(parts)
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
        """See `JointCodec.analyse`; only the effective SNR of the CSI is used."""
        assert self.encoder is not None
        encoder = self.encoder
        if images.shape[-2:].numel() <= LARGE:  # larger ones are copied tile by tile
            images = images.contiguous(memory_format=torch.channels_last)
        condition = encoder.describe(images, csi.snr_db, rate_index)
        latent = apply_tiled(
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
        return self._decode_tiled(self.decoder, latent, csi, rate_index)

    def reconstruct_with_texture(self, received: Received) -> tuple[Tensor, Tensor]:
        """Decode as `reconstruct` does, and the texture map.

        Returns:
            Images [B, 3, H, W], not clamped, and the map [B, 1, ⌈H/16⌉, ⌈W/16⌉].
        """
        latent, csi, index = self.received_latent(received)
        assert self.decoder is not None
        network = self.decoder.with_texture
        decoded = self._decode_tiled(network, latent, csi, index)
        texture = decoded[:, 3:, ::STRIDE, ::STRIDE].contiguous()
        return crop(decoded[:, :3], received.image_size), texture

    def attempt_with_texture(self, received: Received) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `TextureCodec.attempt_with_texture`; no map without `CompactConfig.texture`."""
        if not self.config.texture:
            return *self.attempt(received), None
        images, texture = self.reconstruct_with_texture(received)
        return *self.bound(images, received), texture

    def _decode_tiled(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        latent: Tensor,
        csi: ChannelState,
        rate_index: int,
    ) -> Tensor:
        assert self.decoder is not None
        decoder = self.decoder
        latent = latent.contiguous(memory_format=torch.channels_last)
        condition = decoder.describe(latent, csi.snr_db, rate_index)
        latent = decoder.spectrum(latent, condition)
        return apply_tiled(
            lambda part: network(part, condition), latent, 1, Fraction(STRIDE), TILE, HALO
        )

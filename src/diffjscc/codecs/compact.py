"""CompactJSCC: one small network for four rates and all SNRs, for two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.choices import ConstellationName
from diffjscc.codecs.compact_layers import (
    Block,
    Condition,
    Gains,
    Pointwise,
    TextureHead,
    TextureInput,
)
from diffjscc.codecs.constellations import check_constellation
from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.codecs.ranges import BLOCKS, WIDTH, check_numbers, check_odd, check_snr_range
from diffjscc.codecs.texture_mean import SentMean, receive_mean, send_mean
from diffjscc.data.geometry import PaddedImages, crop
from diffjscc.layers.banding import Stage, band_rows, run
from diffjscc.layers.block_dct import SHALLOW, STRIDE, dct_basis
from diffjscc.layers.spectral_gain import SpectralGain
from diffjscc.layers.texture import texture_map
from diffjscc.symbols import ChannelState, Received


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
        constellation: finite alphabet of the symbols, see `codecs.constellations`; None for any
            complex numbers.
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
    constellation: ConstellationName | None = None

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
        check_constellation(self.constellation)


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
        return F.conv2d(F.pixel_unshuffle(2 * images - 1, STRIDE), self.analysis)

    def stages(self, condition: Tensor, texture: Tensor | None) -> list[Stage]:
        """List the deep network from images to its part of the latent, [B, C_max, H/16, W/16].

        Args:
            condition: see `Condition`.
            texture: texture map of the whole images, if it is sent.
        """

        def stem(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            features: Tensor = self.stem(F.pixel_unshuffle(2 * x - 1, 4))
            return features[..., keep, :]

        def down(x: Tensor, keep: slice, top: int) -> Tensor:
            features: Tensor = self.down(x)[..., keep, :]
            if self.texture is None or texture is None:
                return features
            first = top + (keep.start or 0)
            return features + self.texture.known(texture, first, features.shape[-2])

        return [
            Stage(stem, reach=1, step=STRIDE // 2),
            *block_stages(self.mid, condition),
            Stage(down, reach=1, step=2),
            *block_stages(self.deep, condition),
            Stage(lambda x, keep, _: self.head(x[..., keep, :])),
        ]

    def combine(
        self, coefficients: Tensor, deep: Tensor, condition: Tensor, texture: Tensor | None
    ) -> Tensor:
        """Add up the latent [B, C_max, h, w]: block DCT, deep network and texture map."""
        sent: Tensor | float = 0.0
        if self.texture is not None and texture is not None:
            sent = self.texture.sent(texture, condition)
        latent: Tensor = self.gains(coefficients, condition) + deep + sent
        return latent

    def shape(self, latent: Tensor, condition: Tensor, texture: Tensor | None) -> Tensor:
        """Weight the frequencies of a latent [B, C, h, w], and put the texture's mean beneath."""
        shaped: Tensor = self.spectrum(latent, condition)
        return shaped if texture is None else send_mean(shaped, texture, self.channels[0])

    def forward(self, images: PaddedImages, snr_db: Tensor, rate_index: int, band: int) -> Tensor:
        """Encode images at SNRs [B], in bands of so many rows, a multiple of 16."""
        size = images.size[0], images.size[0] // STRIDE

        def read(rows: slice) -> Tensor:
            return images.rows(rows).contiguous(memory_format=torch.channels_last)

        analysis = [Stage(lambda x, *_: self.transform(x))]
        coefficients = run(analysis, read, size, band, "analysing")
        condition = self.condition(coefficients, snr_db, rate_index)
        texture = None
        if self.texture is not None:
            measure = Stage(lambda x, keep, _: texture_map(x, STRIDE)[..., keep, :], 1, STRIDE)
            texture = run([measure], read, size, band, "measuring texture")
        deep = run(self.stages(condition, texture), read, size, band, "encoding")
        latent = self.combine(coefficients, deep, condition, texture)
        return self.shape(latent[:, : self.channels[rate_index]], condition, texture)


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

    def receive(
        self, latent: Tensor, snr_db: Tensor, rate_index: int | Tensor
    ) -> tuple[Tensor, Tensor, SentMean | None]:
        """Take the texture's mean out of a latent [B, C, h, w], and weight its frequencies.

        Returns:
            The latent, widened; its condition; and the mean, if the codec sends a map.
        """
        sent = None
        if self.texture is not None:
            latent, sent = receive_mean(latent, snr_db)
        latent = latent.contiguous(memory_format=torch.channels_last)
        condition = self.condition(self.widen(latent), snr_db, rate_index)
        return self.widen(self.spectrum(latent, condition)), condition, sent

    def stages(
        self, latent: Tensor, condition: Tensor, textures: list[Tensor] | None = None
    ) -> list[Stage]:
        """List the network from a latent, widened, to images, not clamped.

        Args:
            latent: the whole latent [B, C_max, h, w].
            condition: see `Condition`.
            textures: gets the rows of the texture map [B, 1, …, w], unless None.
        """

        def stem(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            features: Tensor = self.stem(x)
            return features[..., keep, :]

        def note_texture(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            if self.texture is not None and textures is not None:
                textures.append(self.texture(x, condition, keep))
            return x[..., keep, :]

        def up(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            return F.pixel_shuffle(self.up_mid(x[..., keep, :]), 2)

        def add_blocks(x: Tensor, keep: slice, top: int) -> Tensor:
            """Add the inverse DCT, at 1/4 of the image size; two rows of `x` a latent row."""
            del keep
            first, last = top // 2, -(-(top + x.shape[-2]) // 2)
            coefficients = self.gains(latent[..., first:last, :], condition)
            blocks = F.pixel_shuffle(F.conv2d(coefficients, self.synthesis), STRIDE)
            skipped = 2 * (top - 2 * first)
            parts = F.pixel_unshuffle(blocks, 4)[..., skipped : skipped + 2 * x.shape[-2], :]
            return F.pixel_shuffle(self.up_shallow(x), 2) + parts

        def shallow(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            return x[..., keep, :] + F.silu(self.shallow(x)[..., keep, :])

        def head(x: Tensor, keep: slice, top: int) -> Tensor:
            del top
            return (F.pixel_shuffle(self.head(x)[..., keep, :], 4) + 1) / 2

        return [
            Stage(stem, reach=1),
            *block_stages(self.deep, condition),
            *(
                []
                if textures is None or self.texture is None
                else [Stage(note_texture, self.texture.reach)]
            ),
            Stage(up),
            *block_stages(self.mid, condition),
            Stage(add_blocks),
            Stage(shallow, reach=1),
            Stage(head, reach=1),
        ]

    def forward(
        self, latent: Tensor, snr_db: Tensor, rate_index: int, band: int, texture: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Decode a latent [B, C, h, w] at SNRs [B], in bands of so many rows.

        Returns:
            Images [B, 3, 16h, 16w], not clamped; and the texture map [B, 1, h, w] if wanted.
        """
        height = latent.shape[-2]
        latent, condition, sent = self.receive(latent, snr_db, rate_index)
        textures: list[Tensor] | None = [] if texture else None
        stages = self.stages(latent, condition, textures)
        size = height, STRIDE * height
        images = run(stages, lambda rows: latent[..., rows, :], size, band, "decoding")
        return images, sent.correct(torch.cat(textures, dim=-2)) if textures and sent else None


def block_stages(blocks: nn.ModuleList, condition: Tensor) -> list[Stage]:
    """List blocks as stages."""

    def stage(block: Block) -> Stage:
        return Stage(lambda x, keep, _: block(x, condition, keep), block.reach)

    return [stage(block) for block in blocks if isinstance(block, Block)]


class CompactJSCC(JointCodec):
    """A rate- and SNR-adaptive codec of 6.3 M parameters: R = 1/128, 1/64, 1/32, 1/16.

    A rate uses the first C latent channels; SNR and rate modulate every block of both ends.
    Apart from two global statistics per channel and the spectral gain of the whole latent, all
    layers are local: large images are coded in bands of rows, with the same result to rounding.

    Args:
        config: the architecture.
        parts: which ends to build.
    """

    stride = STRIDE
    share_span = (0.3, 1.0)  # 24 photographs, all rates of the bundled weights
    encoder: Encoder | None
    decoder: Decoder | None

    def __init__(self, config: CompactConfig, parts: Parts = "both") -> None:
        super().__init__(config, Encoder, Decoder, parts)
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
        padded = self.padded(images)
        height, width = (side // STRIDE for side in padded.size)
        band = STRIDE * band_rows((height, width))
        latent: Tensor = self.encoder(padded, csi.snr_db, rate_index, band)
        return latent

    def synthesise(self, latent: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.synthesise`."""
        assert self.decoder is not None
        band = band_rows((latent.shape[-2], latent.shape[-1]))
        images: Tensor = self.decoder(latent, csi.snr_db, rate_index, band)[0]
        return images

    def reconstruct_with_texture(self, received: Received) -> tuple[Tensor, Tensor]:
        """Decode as `reconstruct` does, and the texture map.

        Returns:
            Images [B, 3, H, W], not clamped, and the map [B, 1, ⌈H/16⌉, ⌈W/16⌉].
        """
        latent, csi, index = self.received_latent(received)
        assert self.decoder is not None
        band = band_rows((latent.shape[-2], latent.shape[-1]))
        images, texture = self.decoder(latent, csi.snr_db, index, band, texture=True)
        assert texture is not None
        return crop(images, received.image_size), texture

    def attempt_with_texture(self, received: Received) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `TextureCodec.attempt_with_texture`; no map without `CompactConfig.texture`."""
        if not self.config.texture:
            return *self.attempt(received), None
        images, texture = self.reconstruct_with_texture(received)
        return *self.bound(images, received), texture

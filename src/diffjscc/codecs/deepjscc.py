"""DeepJSCC: the paper's convolutional codec, one set of weights for a range of SNRs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.choices import ConstellationName
from diffjscc.codecs.constellations import check_constellation
from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.codecs.ranges import BLOCKS, WIDTH, check_channels, check_numbers, check_snr_range
from diffjscc.data.geometry import Padding
from diffjscc.symbols import ChannelState

Csi = Literal["snr", "snr+gain"]


@dataclass(frozen=True)
class DeepJSCCConfig:
    """Architecture of `DeepJSCC`; the defaults are the paper's at R = 1/128 cpp.

    Attributes:
        channels: latent channels C, even; R = C / (2·4^downsamplings) cpp.
        base_width: feature channels at full size; they double with every downsampling.
        encoder_width: maximum number of feature channels in the encoder.
        decoder_width: maximum number of feature channels in the decoder.
        downsamplings: number of downsamplings by 2.
        encoder_blocks: residual blocks of the encoder, each followed by a modulation.
        decoder_blocks: residual blocks of the decoder, each followed by a modulation.
        csi: conditioning of both ends. "snr": on the SNR. "snr+gain": on the mean SNR and the fade
            h, for weights trained with CSI at the transmitter.
        snr_range_db: SNR range of training in dB; outside it the codec warns.
        padding: padding of images whose sides are not multiples of the stride.
        constellation: finite alphabet of the symbols, see `codecs.constellations`; None for any
            complex numbers.
    """

    channels: int = 4
    base_width: int = 64
    encoder_width: int = 384
    decoder_width: int = 384
    downsamplings: int = 4
    encoder_blocks: int = 4
    decoder_blocks: int = 4
    csi: Csi = "snr"
    snr_range_db: tuple[float, float] = (0.0, 14.0)
    padding: Padding = "reflect"
    constellation: ConstellationName | None = None

    def __post_init__(self) -> None:
        check_channels(self.channels)
        if self.csi not in get_args(Csi):
            raise ValueError(f"csi is {self.csi!r}; it must be one of {', '.join(get_args(Csi))}")
        check_numbers(
            self,
            {
                "channels": (2, 4096),
                "base_width": WIDTH,
                "encoder_width": WIDTH,
                "decoder_width": WIDTH,
                "downsamplings": (1, 8),
                "encoder_blocks": BLOCKS,
                "decoder_blocks": BLOCKS,
            },
        )
        check_snr_range(self.snr_range_db)
        check_constellation(self.constellation)

    @property
    def csi_width(self) -> int:
        """Length k of the CSI vector: SNR, or SNR, Re h and Im h."""
        return 1 if self.csi == "snr" else 3

    def widths(self, limit: int) -> list[int]:
        """List the feature channels after 0, 1 … `downsamplings` downsamplings, at most `limit`."""
        return [min(self.base_width * 2**i, limit) for i in range(self.downsamplings + 1)]


def reflect(x: Tensor, margin: int) -> Tensor:
    """Pad [B, C, h, w] by `margin` on all sides with reflection; short sides by replication."""
    for side, pads in ((-1, (margin, margin, 0, 0)), (-2, (0, 0, margin, margin))):
        x = F.pad(x, pads, mode="reflect" if x.shape[side] > margin else "replicate")
    return x


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, h, w] to non-negative [B, C', h', w']."""
        return F.relu(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Residual block x + BN(conv(ReLU(BN(conv(x))))).

    Args:
        width: feature channels.
        padding: padding of the 3x3 convolutions.
    """

    def __init__(self, width: int, padding: Padding) -> None:
        super().__init__()
        self.padding = padding
        self.conv1 = nn.Conv2d(width, width, 3, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, width, h, w] to the same shape."""
        y = F.relu(self.norm1(self.conv1(self._pad(x))))
        out: Tensor = x + self.norm2(self.conv2(self._pad(y)))
        return out

    def _pad(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 1, 1, 1)) if self.padding == "zero" else reflect(x, 1)


class Modulation(nn.Module):
    """Modulation z·σ(scale(c)) + shift(c) per channel, with c = [mean over h, w of z; csi].

    The channel-wise attention of ADJSCC (Xu et al., arXiv 2012.00533) with a shift.
    """

    def __init__(self, width: int, csi_width: int) -> None:
        super().__init__()
        self.scale, self.shift = (
            nn.Sequential(nn.Linear(width + csi_width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(2)
        )

    def forward(self, z: Tensor, csi: Tensor) -> Tensor:
        """Modulate features [B, width, h, w] by csi [B, k]."""
        context = torch.cat((z.mean(dim=(2, 3)), csi.to(z.dtype)), dim=1)
        scale = torch.sigmoid(self.scale(context))[:, :, None, None]
        shift: Tensor = self.shift(context)[:, :, None, None]
        return z * scale + shift


class Encoder(nn.Module):
    """Encoder: strided convolutions, modulated residual blocks, projection."""

    def __init__(self, config: DeepJSCCConfig) -> None:
        super().__init__()
        widths = config.widths(config.encoder_width)
        self.stem = ConvNorm(nn.Conv2d(3, widths[0], 7, bias=False))
        self.down = nn.ModuleList(
            ConvNorm(nn.Conv2d(wide, deep, 3, stride=2, padding=1, bias=False))
            for wide, deep in pairwise(widths)
        )
        blocks = range(config.encoder_blocks)
        self.blocks = nn.ModuleList(ResidualBlock(widths[-1], "zero") for _ in blocks)
        self.modulations = nn.ModuleList(Modulation(widths[-1], config.csi_width) for _ in blocks)
        self.head = nn.Conv2d(widths[-1], config.channels, 3, padding=1)

    def forward(self, images: Tensor, csi: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [0, 1], given csi [B, k], as [B, C, H/stride, W/stride]."""
        z = self.stem(reflect(images, 3))
        for down in self.down:
            z = down(z)
        for block, modulation in zip(self.blocks, self.modulations, strict=True):
            z = modulation(block(z), csi)
        latent: Tensor = self.head(z)
        return latent


class Decoder(nn.Module):
    """Decoder: modulated residual blocks, transposed convolutions, sigmoid."""

    def __init__(self, config: DeepJSCCConfig) -> None:
        super().__init__()
        widths = config.widths(config.decoder_width)[::-1]
        self.stem = nn.Conv2d(config.channels, widths[0], 3, padding=1, bias=False)
        blocks = range(config.decoder_blocks)
        self.blocks = nn.ModuleList(ResidualBlock(widths[0], "reflect") for _ in blocks)
        self.modulations = nn.ModuleList(Modulation(widths[0], config.csi_width) for _ in blocks)
        self.up = nn.ModuleList(
            ConvNorm(
                nn.ConvTranspose2d(deep, wide, 3, stride=2, padding=1, output_padding=1, bias=False)
            )
            for deep, wide in pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], 3, 5)

    def forward(self, latent: Tensor, csi: Tensor) -> Tensor:
        """Decode equalised latents [B, C, h, w], given csi [B, k], to images in [0, 1]."""
        z = self.stem(latent)
        for block, modulation in zip(self.blocks, self.modulations, strict=True):
            z = modulation(block(z), csi)
        for up in self.up:
            z = up(z)
        return torch.sigmoid(self.head(reflect(z, 2)))


class DeepJSCC(JointCodec):
    """The initial codec of DiffJSCC (Yang, Liu, Wang, Kim, arXiv 2404.17736): 31.2 M parameters.

    With csi "snr" both ends are conditioned on the effective SNR |h|²/N0 known to them, so that
    weights trained on AWGN can be used on fading channels. With csi "snr+gain" both are conditioned
    on [mean SNR 1/N0 in dB, Re h, Im h]: the released Rayleigh weights receive the fade as h
    only, not as part of the SNR.

    Args:
        config: the architecture.
        parts: which ends to build.
    """

    def __init__(self, config: DeepJSCCConfig, parts: Parts = "both") -> None:
        super().__init__(config, Encoder, Decoder, parts)
        self.stride = 2**config.downsamplings
        self.padding = config.padding

    @property
    def channels(self) -> tuple[int, ...]:
        """Latent channels C; these weights have one rate."""
        return (self.config.channels,)

    @property
    def knows_fades(self) -> bool:
        """Return whether the networks are given the gain."""
        return bool(self.config.csi == "snr+gain")

    def analyse(self, images: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.analyse`."""
        del rate_index
        assert self.encoder is not None
        if self.config.csi == "snr+gain" and not csi.transmitter_csi:
            raise ValueError(
                "this codec was trained with CSI at the transmitter, and the gain is not known "
                "there; use a channel that provides it, such as Rayleigh(snr_db, "
                "transmitter_csi=True)"
            )
        latent: Tensor = self.encoder(self.padded(images).whole(), self._csi(csi))
        return latent

    def synthesise(self, latent: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.synthesise`."""
        del rate_index
        assert self.decoder is not None
        images: Tensor = self.decoder(latent, self._csi(csi))
        return images

    def _csi(self, csi: ChannelState) -> Tensor:
        """Build the CSI vector [B, k]."""
        if self.config.csi == "snr":
            return csi.snr_db[:, None]
        if csi.gain.shape[1] != 1:
            raise ValueError(
                f"the gain has shape {tuple(csi.gain.shape)}; this codec supports block fading "
                "only, one gain per image [B, 1]"
            )
        return torch.cat((csi.mean_snr_db[:, None], csi.gain.real, csi.gain.imag), dim=1)


_WEIGHT = ("weight",)
_AFFINE = ("weight", "bias")
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def released_keys(config: DeepJSCCConfig) -> dict[str, str]:
    """Map the tensor names of the released CNN codec to those of this codec, one to one.

    Returns:
        Keys of the released `E` and `G` modules to keys of `DeepJSCC(config)`; complete on both
        sides.
    """
    modules = [
        ("E.net.1", "encoder.stem.conv", _WEIGHT),
        ("E.net.2", "encoder.stem.norm", _NORM),
        ("E.projection", "encoder.head", _AFFINE),
        ("G.mask_conv", "decoder.stem", _WEIGHT),
        (f"G.model.{3 * config.downsamplings + 1}", "decoder.head", _AFFINE),
    ]
    for i in range(config.downsamplings):
        modules += [
            (f"E.net.{3 * i + 4}", f"encoder.down.{i}.conv", _WEIGHT),
            (f"E.net.{3 * i + 5}", f"encoder.down.{i}.norm", _NORM),
            (f"G.model.{3 * i}", f"decoder.up.{i}.conv", _WEIGHT),
            (f"G.model.{3 * i + 1}", f"decoder.up.{i}.norm", _NORM),
        ]
    ends = (
        ("E", "encoder", config.encoder_blocks, (0, 1, 3, 4)),
        ("G", "decoder", config.decoder_blocks, (1, 2, 5, 6)),
    )
    for theirs, ours, blocks, (conv1, norm1, conv2, norm2) in ends:
        for i in range(blocks):
            block, modulation = f"{theirs}.res_list.{2 * i}", f"{theirs}.res_list.{2 * i + 1}"
            modules += [
                (f"{block}.conv_block.{conv1}", f"{ours}.blocks.{i}.conv1", _WEIGHT),
                (f"{block}.conv_block.{norm1}", f"{ours}.blocks.{i}.norm1", _NORM),
                (f"{block}.conv_block.{conv2}", f"{ours}.blocks.{i}.conv2", _WEIGHT),
                (f"{block}.conv_block.{norm2}", f"{ours}.blocks.{i}.norm2", _NORM),
            ]
            modules += [
                (f"{modulation}.{mlp}.{layer}", f"{ours}.modulations.{i}.{name}.{layer}", _AFFINE)
                for mlp, name in (("model_multi", "scale"), ("model_add", "shift"))
                for layer in (0, 2)
            ]
    return {f"{a}.{leaf}": f"{b}.{leaf}" for a, b, leaves in modules for leaf in leaves}

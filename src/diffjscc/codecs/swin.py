"""SwinJSCC: an SNR-adaptive codec of shifted-window transformers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.choices import ConstellationName
from diffjscc.codecs.constellations import check_constellation
from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.codecs.ranges import BLOCKS, WIDTH, check_channels, check_numbers, check_snr_span
from diffjscc.codecs.reception import Receiver, check_receiver
from diffjscc.codecs.windows import SwinBlock
from diffjscc.data.geometry import Padding
from diffjscc.symbols import ChannelState

ENDS = ("encoder", "decoder")
MOST_STAGES = 8


@dataclass(frozen=True)
class SwinJSCCConfig:
    """Architecture of `SwinJSCC`; the defaults are the published base size at R = 1/128 cpp.

    Attributes:
        channels: latent channels C, even; R = C / (2·4^stages) cpp.
        encoder_widths: feature channels of each encoder stage, at 1/2, 1/4 … of the size.
        encoder_depths: transformer blocks of each encoder stage.
        encoder_heads: attention heads of each encoder stage.
        decoder_widths: feature channels of each decoder stage, from the latent to the image.
        decoder_depths: transformer blocks of each decoder stage.
        decoder_heads: attention heads of each decoder stage.
        window: side of an attention window, in positions of the stage's grid.
        mlp_ratio: hidden width of a block's MLP, in multiples of its width.
        qkv_bias: whether queries, keys and values have a bias.
        modulation_layers: layers of the SNR modulation.
        trained_size: (H, W) of the training images in pixels. A stage whose grid was at most
            `window` wide there has one window of the grid's size, without shift; the codec takes
            images of any size.
        snr_range_db: SNR range of training in dB; outside it the codec warns.
        padding: padding of images whose sides are not multiples of the stride.
        receiver: "equalised" divides by the channel's gain and conditions the decoder on the
            effective SNR |h|²/N0. "unequalised" decodes h·x + n as received, conditioned on the
            mean SNR 1/N0, as the released weights for Rayleigh fading were trained. "derotated"
            decodes |h|·x + n in the same way.
        constellation: finite alphabet of the symbols, see `codecs.constellations`; None for any
            complex numbers.
    """

    channels: int = 4
    encoder_widths: tuple[int, ...] = (128, 192, 256, 320)
    encoder_depths: tuple[int, ...] = (2, 2, 6, 2)
    encoder_heads: tuple[int, ...] = (4, 6, 8, 10)
    decoder_widths: tuple[int, ...] = (320, 256, 192, 128)
    decoder_depths: tuple[int, ...] = (2, 6, 2, 2)
    decoder_heads: tuple[int, ...] = (10, 8, 6, 4)
    window: int = 8
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    modulation_layers: int = 7
    trained_size: tuple[int, int] = (256, 256)
    snr_range_db: tuple[float, float] = (0.0, 14.0)
    padding: Padding = "reflect"
    receiver: Receiver = "equalised"
    constellation: ConstellationName | None = None

    def __post_init__(self) -> None:
        check_receiver(self.receiver)
        check_channels(self.channels)
        check_numbers(
            self,
            {
                "channels": (2, 4096),
                **{f"{end}_widths": WIDTH for end in ENDS},
                **{f"{end}_depths": BLOCKS for end in ENDS},
                **{f"{end}_heads": (1, 256) for end in ENDS},
                "window": (1, 256),
                "mlp_ratio": (0.01, 16),
                "modulation_layers": (1, 64),
                "trained_size": (1, 65536),
            },
        )
        if self.stages > MOST_STAGES:
            raise ValueError(f"there are {self.stages} stages; give at most {MOST_STAGES}")
        check_snr_span(self.snr_range_db)
        check_constellation(self.constellation)
        ends = (
            ("encoder", self.encoder_widths, self.encoder_depths, self.encoder_heads),
            ("decoder", self.decoder_widths, self.decoder_depths, self.decoder_heads),
        )
        for end, widths, depths, heads in ends:
            if not self.stages == len(widths) == len(depths) == len(heads):
                raise ValueError(
                    f"the {end} has widths {widths}, depths {depths} and heads {heads}; give one "
                    f"number for each of the {self.stages} stages"
                )
            for width, number in zip(widths, heads, strict=True):
                if width % number:
                    raise ValueError(f"the {end}'s width {width} is no multiple of {number} heads")
        if min(self.trained_size) < 2**self.stages:
            raise ValueError(
                f"trained_size is {self.trained_size}; both sides must be at least the stride of "
                f"{2**self.stages} pixels"
            )

    @property
    def snr_modulated(self) -> bool:
        """Return whether both ends are modulated by the SNR."""
        return True

    @property
    def rate_modulated(self) -> bool:
        """Return whether the encoder is modulated by the rate, and sends some of the last width."""
        return False

    @property
    def stages(self) -> int:
        """Stages of each end; each halves or doubles the grid."""
        return len(self.encoder_widths)

    def windows(self, stride: int) -> tuple[int, int]:
        """Compute side and shift of the windows at `stride` pixels per grid position."""
        grid = min(self.trained_size) // stride
        return (self.window, self.window // 2) if grid > self.window else (grid, 0)


class PatchMerge(nn.Module):
    """Downsampling by 2: concatenation of 2x2 patches, norm, linear."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.linear = nn.Linear(4 * width, out_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, h, w, C] with even h and w to [B, h/2, w/2, C']."""
        patches = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        out: Tensor = self.linear(self.norm(torch.cat(patches, dim=-1)))
        return out


class PatchSplit(nn.Module):
    """Upsampling by 2: norm, linear, pixel shuffle."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, 4 * out_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, h, w, C] to [B, 2h, 2w, C']."""
        spread = self.linear(self.norm(x)).permute(0, 3, 1, 2)
        return F.pixel_shuffle(spread, 2).permute(0, 2, 3, 1)


class SNRModulation(nn.Module):
    """Modulation z·σ(m(z, SNR)): linear layers, gated by MLPs of the SNR except for the last.

    The channel modulation of SwinJSCC (Yang, Wang, Dai et al., arXiv 2308.09361).
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        hidden = int(1.5 * width)
        self.mix = nn.ModuleList(
            nn.Linear(width if i == 0 else hidden, width if i == layers else hidden)
            for i in range(layers + 1)
        )
        self.gates = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
                *(nn.Linear(hidden, hidden), nn.Sigmoid()),
            )
            for _ in range(layers)
        )

    def forward(self, z: Tensor, snr_db: Tensor) -> Tensor:
        """Modulate a grid [B, h, w, C] by the SNR [B] in dB."""
        return z * self.factors(z, snr_db)

    def factors(self, z: Tensor, value: Tensor) -> Tensor:
        """Factors in [0, 1] on a grid [B, h, w, C], given the SNR in dB, or another number [B]."""
        given = value[:, None, None, None].to(z.dtype)
        m = z
        for mix, gate in zip(self.mix, self.gates, strict=False):
            m = mix(m) * gate(given)
        return torch.sigmoid(self.mix[-1](m))


def stage(
    config: SwinJSCCConfig, width: int, depth: int, heads: int, *, stride: int
) -> nn.Sequential:
    """Create the transformer blocks of a stage; every second one has shifted windows."""
    window, shift = config.windows(stride)
    blocks = (
        SwinBlock(
            width,
            heads,
            window=window,
            shift=i % 2 * shift,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=config.qkv_bias,
        )
        for i in range(depth)
    )
    return nn.Sequential(*blocks)


class Encoder(nn.Module):
    """Encoder: transformer stages with downsampling between them, then modulation."""

    def __init__(self, config: SwinJSCCConfig) -> None:
        super().__init__()
        widths = config.encoder_widths
        self.embed = nn.Conv2d(3, widths[0], 2, stride=2)
        self.merges = nn.ModuleList(map(PatchMerge, widths, widths[1:]))
        numbers = zip(widths, config.encoder_depths, config.encoder_heads, strict=True)
        self.stages = nn.ModuleList(
            stage(config, *shape, stride=2 ** (i + 1)) for i, shape in enumerate(numbers)
        )
        self.norm = nn.LayerNorm(widths[-1])
        modulation = (widths[-1], config.modulation_layers)
        self.modulation = SNRModulation(*modulation) if config.snr_modulated else None
        self.rate_modulation = SNRModulation(*modulation) if config.rate_modulated else None
        self.head = None if config.rate_modulated else nn.Linear(widths[-1], config.channels)

    def forward(self, images: Tensor, snr_db: Tensor, sent: int | None = None) -> Tensor:
        """Encode images [B, 3, H, W] in [0, 1], given SNR [B], as [B, C, H/stride, W/stride].

        With rate modulation all but the `sent` channels of the largest factors are 0.
        """
        x = self.embed(images).permute(0, 2, 3, 1)
        for i, blocks in enumerate(self.stages):
            x = blocks(x if i == 0 else self.merges[i - 1](x))
        x = self.norm(x)
        if self.modulation is not None:
            x = self.modulation(x, snr_db)
        if self.rate_modulation is not None:
            assert sent is not None
            factors = self.rate_modulation.factors(x, torch.full_like(snr_db, sent))
            order = factors.sum(dim=(1, 2)).argsort(dim=1, descending=True, stable=True)
            chosen = torch.zeros_like(order, dtype=x.dtype).scatter(1, order[:, :sent], 1.0)
            x = x * factors * chosen[:, None, None]
        latent: Tensor = x if self.head is None else self.head(x)
        return latent.permute(0, 3, 1, 2)


class Decoder(nn.Module):
    """Decoder: modulation, then transformer stages with upsampling."""

    def __init__(self, config: SwinJSCCConfig) -> None:
        super().__init__()
        widths = config.decoder_widths
        self.stem = None if config.rate_modulated else nn.Linear(config.channels, widths[0])
        modulated = config.snr_modulated
        self.modulation = SNRModulation(widths[0], config.modulation_layers) if modulated else None
        numbers = zip(widths, config.decoder_depths, config.decoder_heads, strict=True)
        self.stages = nn.ModuleList(
            stage(config, *shape, stride=2 ** (config.stages - i))
            for i, shape in enumerate(numbers)
        )
        self.splits = nn.ModuleList(map(PatchSplit, widths, (*widths[1:], 3)))

    def forward(self, latent: Tensor, snr_db: Tensor) -> Tensor:
        """Decode latents [B, C, h, w], given SNR [B], to images [B, 3, H, W], not bounded."""
        x = latent.permute(0, 2, 3, 1)
        x = x if self.stem is None else self.stem(x)
        x = x if self.modulation is None else self.modulation(x, snr_db)
        for blocks, split in zip(self.stages, self.splits, strict=True):
            x = split(blocks(x))
        return x.permute(0, 3, 1, 2)


class SwinJSCC(JointCodec):
    """SNR-adaptive transformer codec SwinJSCC (Yang, Wang, Dai et al., arXiv 2308.09361).

    The encoder is conditioned on the transmitter's SNR, the decoder on the effective SNR |h|²/N0.
    Padding to windows costs no channel uses: images are padded to the stride only.

    Args:
        config: the architecture.
        parts: which ends to build.
    """

    def __init__(self, config: SwinJSCCConfig, parts: Parts = "both") -> None:
        super().__init__(config, Encoder, Decoder, parts)
        self.stride = 2**config.stages
        self.padding = config.padding

    @property
    def receiver(self) -> Receiver:
        """See the config."""
        receiver: Receiver = self.config.receiver
        return receiver

    @property
    def channels(self) -> tuple[int, ...]:
        """Latent channels C; these weights have one rate."""
        return (self.config.channels,)

    @property
    def knows_fades(self) -> bool:
        """Return whether the decoder takes faded symbols as they are received."""
        return self.receiver != "equalised"

    def analyse(self, images: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.analyse`; only the effective SNR of the CSI is used."""
        del rate_index
        assert self.encoder is not None
        latent: Tensor = self.encoder(self.padded(images).whole(), csi.snr_db)
        return latent

    def synthesise(self, latent: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.synthesise`."""
        del rate_index
        assert self.decoder is not None
        return torch.sigmoid(self.decoder(latent, csi.snr_db))


_WEIGHT = ("weight",)
_AFFINE = ("weight", "bias")


def _blocks(config: SwinJSCCConfig) -> list[tuple[str, str, int]]:
    """List released and own name of every transformer block, and its window shift."""
    blocks = []
    for end, depths in (("encoder", config.encoder_depths), ("decoder", config.decoder_depths)):
        for i, depth in enumerate(depths):
            exponent = i + 1 if end == "encoder" else config.stages - i
            _, shift = config.windows(2**exponent)
            blocks += [
                (f"{end}.layers.{i}.blocks.{j}", f"{end}.stages.{i}.{j}", j % 2 * shift)
                for j in range(depth)
            ]
    return blocks


def released_keys(config: SwinJSCCConfig) -> dict[str, str]:
    """Map the tensor names of the released Swin codec to those of this codec, one to one.

    Returns:
        Released keys of learnt tensors to keys of `SwinJSCC(config)`, which are complete;
        `released_constants` lists the other released keys.
    """
    modules: list[tuple[str, str, tuple[str, ...]]] = [
        ("encoder.patch_embed.proj", "encoder.embed", _AFFINE),
        ("encoder.norm", "encoder.norm", _AFFINE),
    ]
    if not config.rate_modulated:
        modules += [
            ("encoder.head_list", "encoder.head", _AFFINE),
            ("decoder.head_list", "decoder.stem", _AFFINE),
        ]
    for i in range(config.stages):
        down, up = f"encoder.layers.{i}.downsample", f"decoder.layers.{i}.upsample"
        modules += [
            (f"{up}.norm", f"decoder.splits.{i}.norm", _AFFINE),
            (f"{up}.increment", f"decoder.splits.{i}.linear", _WEIGHT),
        ]
        if i > 0:
            modules += [
                (f"{down}.norm", f"encoder.merges.{i - 1}.norm", _AFFINE),
                (f"{down}.reduction", f"encoder.merges.{i - 1}.linear", _WEIGHT),
            ]
    for theirs, ours, _ in _blocks(config):
        modules += [
            (f"{theirs}.norm1", f"{ours}.norm1", _AFFINE),
            (
                f"{theirs}.attn.qkv",
                f"{ours}.attention.qkv",
                _AFFINE if config.qkv_bias else _WEIGHT,
            ),
            (f"{theirs}.attn.proj", f"{ours}.attention.out", _AFFINE),
            (f"{theirs}.norm2", f"{ours}.norm2", _AFFINE),
            (f"{theirs}.mlp.fc1", f"{ours}.mlp.0", _AFFINE),
            (f"{theirs}.mlp.fc2", f"{ours}.mlp.2", _AFFINE),
        ]
    for end, suffix, ours in _modulations(config):
        modules += [
            (f"{end}.sm_list{suffix}.{i}", f"{ours}.mix.{i}", _AFFINE)
            for i in range(config.modulation_layers + 1)
        ]
        modules += [
            (f"{end}.bm_list{suffix}.{i}.fc.{layer}", f"{ours}.gates.{i}.{layer}", _AFFINE)
            for i in range(config.modulation_layers)
            for layer in (0, 2, 4)
        ]
    keys = {f"{a}.{leaf}": f"{b}.{leaf}" for a, b, leaves in modules for leaf in leaves}
    for theirs, ours, _ in _blocks(config):
        table = f"{theirs}.attn.relative_position_bias_table"
        keys[table] = f"{ours}.attention.position_bias"
    return keys


def released_constants(config: SwinJSCCConfig) -> frozenset[str]:
    """List the released keys of constants: window geometry, and an unused embedding."""
    return window_constants(config) | {"decoder.absolute_pos_embed"}


def window_constants(config: SwinJSCCConfig) -> frozenset[str]:
    """List the released keys of the geometry of windows."""
    index = {f"{block}.attn.relative_position_index" for block, _, _ in _blocks(config)}
    masks = {f"{block}.attn_mask" for block, _, shift in _blocks(config) if shift}
    return frozenset(index | masks)


def _modulations(config: SwinJSCCConfig) -> list[tuple[str, str, str]]:
    """List end, suffix of the released lists, and own name of every modulation.

    The second pair of lists is that of the SNR where the encoder is modulated by both.
    """
    found = []
    if config.snr_modulated:
        suffix = "1" if config.rate_modulated else ""
        found += [("encoder", suffix, "encoder.modulation"), ("decoder", "", "decoder.modulation")]
    if config.rate_modulated:
        found.append(("encoder", "", "encoder.rate_modulation"))
    return found

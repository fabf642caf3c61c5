"""A released checkpoint's config.yaml: checked, and translated to our settings.

The class names in the file are compared with known ones and never imported. Settings that our
modules cannot express are refused; settings of training are passed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from diffjscc.pretrained.convert.keys import TextLayout, UNetLayout, VAELayout
from diffjscc.pretrained.storage import WeightsError

# Bounds keep a damaged or hostile file from asking for a network that no machine can describe.
Count = Annotated[int, Field(ge=1, le=64)]
Width = Annotated[int, Field(ge=1, le=65536)]
Groups = Annotated[int, Field(ge=32, le=65536, multiple_of=32)]  # group norms have 32 groups
Levels = Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]


class Section(BaseModel):
    """Part of the file; unknown settings are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class UNetParams(Section):
    """Numbers that the UNet and the control module share."""

    in_channels: Count
    model_channels: Groups
    channel_mult: Levels
    num_res_blocks: Count
    attention_resolutions: tuple[Width, ...]
    num_head_channels: Width
    context_dim: Width
    transformer_depth: Literal[1] = 1
    use_spatial_transformer: Literal[True]
    use_linear_in_transformer: Literal[True]
    use_scale_shift_norm: Literal[False] = False
    resblock_updown: Literal[False] = False
    legacy: Literal[False] = False
    num_classes: None = None

    @property
    def layout(self) -> UNetLayout:
        """The sizes that the tensors' names depend on."""
        return UNetLayout(
            widths=tuple(self.model_channels * factor for factor in self.channel_mult),
            attention=tuple(
                2**level in self.attention_resolutions for level in range(len(self.channel_mult))
            ),
            blocks=self.num_res_blocks,
            condition=(self.in_channels, self.in_channels),
        )

    @property
    def shared_settings(self) -> dict[str, Any]:
        """Arguments that diffusers' UNet and our control module have in common."""
        layout = self.layout
        return {
            "in_channels": self.in_channels,
            "block_out_channels": layout.widths,
            "down_block_types": tuple(
                "CrossAttnDownBlock2D" if attention else "DownBlock2D"
                for attention in layout.attention
            ),
            "layers_per_block": layout.blocks,
            # diffusers' name for the number of heads
            "attention_head_dim": tuple(w // self.num_head_channels for w in layout.widths),
            "cross_attention_dim": self.context_dim,
            "use_linear_projection": True,
            "norm_num_groups": 32,
        }

    @model_validator(mode="after")
    def _heads_divide_widths(self) -> Self:
        for width in self.layout.widths:
            if width % self.num_head_channels:
                raise ValueError(f"{width} channels are no whole number of attention heads")
        return self


class PriorParams(UNetParams):
    """The UNet's own numbers."""

    out_channels: Count


class ControlParams(UNetParams):
    """The control module's own numbers."""

    hint_channels: Count
    use_snr: Literal[True]
    snr_scale: float = Field(1.0, allow_inf_nan=False)
    min_snr: float = Field(0.0, allow_inf_nan=False)


class VAEShape(Section):
    """`ddconfig` of the VAE."""

    double_z: Literal[True]
    z_channels: Count
    resolution: Width
    in_channels: Literal[3]
    out_ch: Literal[3]
    ch: Groups
    ch_mult: Levels
    num_res_blocks: Count
    attn_resolutions: tuple[()]

    @property
    def layout(self) -> VAELayout:
        """The sizes that the tensors' names depend on."""
        return VAELayout(tuple(self.ch * factor for factor in self.ch_mult), self.num_res_blocks)


class VAEParams(Section):
    """The VAE."""

    embed_dim: Count
    ddconfig: VAEShape

    @model_validator(mode="after")
    def _latent_is_not_widened(self) -> Self:
        if self.embed_dim != self.ddconfig.z_channels:
            raise ValueError(f"embed_dim {self.embed_dim} must be z_channels")
        return self


class TextParams(Section):
    """OpenCLIP's name of the text encoder, and the layer whose features are used."""

    arch: Literal["ViT-H-14"] = "ViT-H-14"
    layer: Literal["penultimate"]


class TextTower(Section):
    """Numbers of the text encoder; ViT-H/14's by default."""

    width: Width = 1024
    heads: Count = 16
    layers: Annotated[int, Field(ge=2, le=64)] = 24

    @property
    def layout(self) -> TextLayout:
        """The sizes that the tensors' names depend on."""
        return TextLayout(self.width, self.layers)


class CodecParams(Section):
    """Settings of both kinds of JSCC codec: the SNR range in dB of their training."""

    snr_low: float = Field(alias="SNR_low", allow_inf_nan=False)
    snr_high: float = Field(alias="SNR_high", allow_inf_nan=False)


class CNNParams(CodecParams):
    """The convolutional codec."""

    input_nc: Literal[3]
    output_nc: Literal[3]
    ngf: Width
    max_ngf_e: Width = Field(alias="max_ngf_E")
    max_ngf_d: Width = Field(alias="max_ngf_D")
    n_downsample: Annotated[int, Field(ge=1, le=8)]
    norm: Literal["batch"]
    c_channel: Width = Field(alias="C_channel")
    n_blocks_e: Count = Field(alias="n_blocks_E")
    n_blocks_d: Count = Field(alias="n_blocks_D")
    channel: Literal["AWGN", "Rayleigh"]

    @property
    def description(self) -> dict[str, Any]:
        """The codec's description for `build_codec`."""
        return {
            "class": "DeepJSCC",
            "channels": self.c_channel,
            "base_width": self.ngf,
            "encoder_width": self.max_ngf_e,
            "decoder_width": self.max_ngf_d,
            "downsamplings": self.n_downsample,
            "encoder_blocks": self.n_blocks_e,
            "decoder_blocks": self.n_blocks_d,
            "csi": "snr" if self.channel == "AWGN" else "snr+gain",
            "snr_range_db": (self.snr_low, self.snr_high),
            "padding": "zero",
        }


class SwinParams(CodecParams):
    """The transformer codec."""

    img_size_h: Width
    img_size_w: Width
    patch_size: Literal[2]
    in_chans: Literal[3]
    embed_dims: Widths
    embed_dims_d: Widths
    depths: Levels
    depths_d: Levels
    num_heads: Levels
    num_heads_d: Levels
    bottleneck_dim: Width
    window_size: Width
    mlp_ratio: float = Field(gt=0, le=64)
    qkv_bias: bool
    qk_scale: None = None
    patch_norm: Literal[True]
    channel: Literal["AWGN", "Rayleigh"]

    @property
    def description(self) -> dict[str, Any]:
        """See `CNNParams.description`."""
        return {
            "class": "SwinJSCC",
            "channels": self.bottleneck_dim,
            "encoder_widths": self.embed_dims,
            "encoder_depths": self.depths,
            "encoder_heads": self.num_heads,
            "decoder_widths": self.embed_dims_d,
            "decoder_depths": self.depths_d,
            "decoder_heads": self.num_heads_d,
            "window": self.window_size,
            "mlp_ratio": self.mlp_ratio,
            "qkv_bias": self.qkv_bias,
            "receiver": "equalised" if self.channel == "AWGN" else "unequalised",
            "trained_size": (self.img_size_h, self.img_size_w),
            "snr_range_db": (self.snr_low, self.snr_high),
            "padding": "zero",
        }


class UNetSection(Section):
    """`unet_config`."""

    target: Literal["model.cldm.ControlledUnetModel"]
    params: PriorParams


class ControlSection(Section):
    """`control_stage_config`."""

    target: Literal["model.cldm.ControlNet"]
    params: ControlParams


class VAESection(Section):
    """`first_stage_config`."""

    target: Literal["ldm.models.autoencoder.AutoencoderKL"]
    params: VAEParams


class TextSection(Section):
    """`cond_stage_config`."""

    target: Literal["ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder"]
    params: TextParams


class CNNSection(Section):
    """`preprocess_config` of the convolutional codec."""

    target: Literal["model.deepjscc_cnn.DeepJSCC"]
    params: CNNParams


class SwinSection(Section):
    """`preprocess_config` of the transformer codec."""

    target: Literal["model.deepjscc_swin.DeepJSCC_SWIN"]
    params: SwinParams


class ModelParams(Section):
    """The whole model; no control of the middle block alone, noise predicted."""

    only_mid_control: Literal[False] = False
    parameterization: Literal["eps"] = "eps"
    beta_schedule: Literal["linear"] = "linear"
    linear_start: float = Field(gt=0, lt=1)
    linear_end: float = Field(gt=0, lt=1)
    timesteps: int = Field(ge=2, le=100_000)
    image_size: Width
    scale_factor: float = Field(gt=0, allow_inf_nan=False)
    control_stage_config: ControlSection
    unet_config: UNetSection
    first_stage_config: VAESection
    cond_stage_config: TextSection
    preprocess_config: Annotated[CNNSection | SwinSection, Field(discriminator="target")]

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        control, unet = self.control_stage_config.params, self.unet_config.params
        for name in UNetParams.model_fields:
            ours, theirs = getattr(control, name), getattr(unet, name)
            if ours != theirs:
                raise ValueError(f"{name} is {theirs} in the UNet and {ours} in the control module")
        latent = self.first_stage_config.params.ddconfig.z_channels
        sizes = (unet.in_channels, unet.out_channels, control.hint_channels)
        if set(sizes) != {latent}:
            raise ValueError(f"the VAE has {latent} latent channels, UNet and control {sizes}")
        return self


class ReleasedConfig(Section):
    """The whole file; `text_tiny` is present if the text encoder is not OpenCLIP's ViT-H/14."""

    target: Literal["model.cldm.ControlLDM"]
    params: ModelParams
    text_tiny: TextTower = TextTower()

    @property
    def control(self) -> ControlParams:
        """The control module."""
        return self.params.control_stage_config.params

    @property
    def unet(self) -> PriorParams:
        """The prior."""
        return self.params.unet_config.params

    @property
    def vae(self) -> VAEShape:
        """The VAE."""
        return self.params.first_stage_config.params.ddconfig

    @property
    def codec(self) -> CNNParams | SwinParams:
        """The JSCC codec."""
        return self.params.preprocess_config.params

    @model_validator(mode="after")
    def _text_fits(self) -> Self:
        width, heads = self.text_tiny.width, self.text_tiny.heads
        if width != self.unet.context_dim or width % heads:
            raise ValueError(
                f"the UNet's context_dim is {self.unet.context_dim}, but the text encoder has "
                f"{width} channels in {heads} heads"
            )
        return self


def check_config(value: dict[str, Any], path: Path) -> ReleasedConfig:
    """Check plain data; `path` is named in the error.

    Raises:
        WeightsError: missing, ill-typed or unsupported settings; all of them are named.
    """
    try:
        return ReleasedConfig.model_validate(value)
    except ValidationError as error:
        lines = [describe(fault) for fault in error.errors()]
        raise WeightsError(
            f"{path} does not describe a checkpoint that can be read:\n  " + "\n  ".join(lines)
        ) from error


def describe(fault: ErrorDetails) -> str:
    """Describe one fault that pydantic found, in one line."""
    where = ".".join(map(str, fault["loc"])) or "the file as a whole"
    if fault["type"] == "missing":
        return f"{where} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    if isinstance(fault["input"], dict):
        return f"{where}: {message}"
    return f"{where} is {fault['input']!r}: {message}"

"""Names of a released checkpoint's tensors and of ours: one table per component, read both ways.

| released prefix | component folder | names there |
|---|---|---|
| `model.diffusion_model.` | `unet` | diffusers' `UNet2DConditionModel` |
| `control_model.` | `control` | `ControlModule` |
| `first_stage_model.` | `vae` | diffusers' `AutoencoderKL` |
| `cond_encoder.` | `condition_encoder` | `ConditionEncoder` |
| `cond_stage_model.model.` | `text_encoder` | transformers' `CLIPTextModel`, less the last block |
| `preprocess_model.` | `codec` | `DeepJSCC` or `SwinJSCC` |

A table is a tuple of `Move`; nothing but the tables knows a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

UNET = "model.diffusion_model."
CONTROL = "control_model."
VAE = "first_stage_model."
CONDITION_ENCODER = "cond_encoder."
TEXT = "cond_stage_model.model."
CODEC = "preprocess_model."

SCHEDULE = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "logvar",
)

_WEIGHT = ("weight",)
_AFFINE = ("weight", "bias")


@dataclass(frozen=True)
class Move:
    """One released tensor, and our tensors that hold its numbers together.

    Attributes:
        released: its key in the checkpoint.
        ours: keys in the component, in their order along `dim`.
        sizes: length of each along `dim`; empty for a single one.
        dim: dimension that is split.
        pointwise: whether a 1x1 convolution [O, I, 1, 1] is a linear layer [O, I] here.
    """

    released: str
    ours: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    dim: int = 0
    pointwise: bool = False

    def to_ours(self, tensor: Tensor) -> dict[str, Tensor]:
        """Split the released tensor into ours; views of it where possible."""
        if self.pointwise:
            return {self.ours[0]: tensor.flatten(1)}
        parts = torch.split(tensor, list(self.sizes), self.dim) if self.sizes else (tensor,)
        return dict(zip(self.ours, parts, strict=True))

    def to_released(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Join our tensors to the released one; inverse of `to_ours`."""
        parts = [tensors[key] for key in self.ours]
        if self.pointwise:
            return parts[0][:, :, None, None]
        return parts[0] if len(parts) == 1 else torch.cat(parts, self.dim)


@dataclass(frozen=True)
class UNetLayout:
    """Sizes that the names in a UNet and its control module depend on.

    Attributes:
        widths: feature channels of each level, from the latent's size down.
        attention: whether a level has transformers.
        blocks: residual blocks of a level on the way down; one more on the way up.
        condition: channels of z_t and of f_s, side by side in the control module's first conv.
    """

    widths: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int
    condition: tuple[int, int] = (4, 4)


@dataclass(frozen=True)
class VAELayout:
    """Sizes that the names in a VAE depend on.

    Attributes:
        widths: feature channels of each level, from the image's size down.
        blocks: residual blocks of a level of the encoder; one more in the decoder.
    """

    widths: tuple[int, ...]
    blocks: int


@dataclass(frozen=True)
class TextLayout:
    """Sizes that the names in a text encoder depend on.

    Attributes:
        width: feature channels.
        blocks: transformer blocks of the checkpoint; the last is never used.
    """

    width: int
    blocks: int


Module = tuple[str, str, tuple[str, ...]]  # released name, our name, its tensors


def _moves(modules: Iterable[Module], prefix: str) -> Iterator[Move]:
    for theirs, ours, leaves in modules:
        for leaf in leaves:
            yield Move(f"{prefix}{theirs}.{leaf}", (f"{ours}.{leaf}",))


def _residual(theirs: str, ours: str, shortcut: bool) -> Iterator[Module]:
    """List a UNet's residual block; its shortcut is a convolution where the width changes."""
    yield f"{theirs}.in_layers.0", f"{ours}.norm1", _AFFINE
    yield f"{theirs}.in_layers.2", f"{ours}.conv1", _AFFINE
    yield f"{theirs}.emb_layers.1", f"{ours}.time_emb_proj", _AFFINE
    yield f"{theirs}.out_layers.0", f"{ours}.norm2", _AFFINE
    yield f"{theirs}.out_layers.3", f"{ours}.conv2", _AFFINE
    if shortcut:
        yield f"{theirs}.skip_connection", f"{ours}.conv_shortcut", _AFFINE


def _transformer(theirs: str, ours: str) -> Iterator[Module]:
    """List the modules of a spatial transformer with one block, whose names are the same."""
    block = "transformer_blocks.0"
    for name in ("norm", "proj_in", "proj_out"):
        yield f"{theirs}.{name}", f"{ours}.{name}", _AFFINE
    for name in ("norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2"):
        yield f"{theirs}.{block}.{name}", f"{ours}.{block}.{name}", _AFFINE
    for attention in (f"{block}.attn1", f"{block}.attn2"):
        for name, leaves in (
            *((f"to_{letter}", _WEIGHT) for letter in "qkv"),
            ("to_out.0", _AFFINE),
        ):
            yield f"{theirs}.{attention}.{name}", f"{ours}.{attention}.{name}", leaves


def _way_down(layout: UNetLayout) -> Iterator[Module]:
    """List time embedding, levels and middle block, common to UNet and control module."""
    yield "time_embed.0", "time_embedding.linear_1", _AFFINE
    yield "time_embed.2", "time_embedding.linear_2", _AFFINE
    for level, width in enumerate(layout.widths):
        before = layout.widths[max(level - 1, 0)]
        for j in range(layout.blocks):
            block = f"input_blocks.{1 + level * (layout.blocks + 1) + j}"
            ours = f"down_blocks.{level}"
            yield from _residual(f"{block}.0", f"{ours}.resnets.{j}", j == 0 and before != width)
            if layout.attention[level]:
                yield from _transformer(f"{block}.1", f"{ours}.attentions.{j}")
        if level + 1 < len(layout.widths):
            block = f"input_blocks.{(level + 1) * (layout.blocks + 1)}"
            yield f"{block}.0.op", f"down_blocks.{level}.downsamplers.0.conv", _AFFINE
    yield from _residual("middle_block.0", "mid_block.resnets.0", False)
    yield from _transformer("middle_block.1", "mid_block.attentions.0")
    yield from _residual("middle_block.2", "mid_block.resnets.1", False)


def _way_up(layout: UNetLayout) -> Iterator[Module]:
    """List the levels from the smallest grid up; every block takes a skip, so its width changes."""
    for i in range(len(layout.widths)):
        attention = layout.attention[-1 - i]
        for j in range(layout.blocks + 1):
            block = f"output_blocks.{i * (layout.blocks + 1) + j}"
            yield from _residual(f"{block}.0", f"up_blocks.{i}.resnets.{j}", True)
            if attention:
                yield from _transformer(f"{block}.1", f"up_blocks.{i}.attentions.{j}")
            if j == layout.blocks and i + 1 < len(layout.widths):
                theirs = f"{block}.{1 + attention}.conv"
                yield theirs, f"up_blocks.{i}.upsamplers.0.conv", _AFFINE


def unet_table(layout: UNetLayout) -> tuple[Move, ...]:
    """Table of the frozen prior."""
    modules = [
        ("input_blocks.0.0", "conv_in", _AFFINE),
        *_way_down(layout),
        *_way_up(layout),
        ("out.0", "conv_norm_out", _AFFINE),
        ("out.2", "conv_out", _AFFINE),
    ]
    return tuple(_moves(modules, UNET))


def control_table(layout: UNetLayout) -> tuple[Move, ...]:
    """Table of the control module: a UNet's way down, SNR embedding and zero convolutions."""
    residuals = len(layout.widths) * (layout.blocks + 1)
    modules = [
        ("snr_embed.0", "class_embedding.linear_1", _AFFINE),
        ("snr_embed.2", "class_embedding.linear_2", _AFFINE),
        *_way_down(layout),
        *((f"zero_convs.{i}.0", f"controlnet_down_blocks.{i}", _AFFINE) for i in range(residuals)),
        ("middle_block_out.0", "controlnet_mid_block", _AFFINE),
    ]
    # One convolution of cat(z_t, f_s) is the sum of two, of which one has the bias.
    joint = Move(
        f"{CONTROL}input_blocks.0.0.weight",
        ("conv_in.weight", "controlnet_cond_embedding.weight"),
        sizes=layout.condition,
        dim=1,
    )
    bias = Move(f"{CONTROL}input_blocks.0.0.bias", ("conv_in.bias",))
    return joint, bias, *_moves(modules, CONTROL)


def _vae_residual(theirs: str, ours: str, shortcut: bool) -> Iterator[Module]:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        yield f"{theirs}.{name}", f"{ours}.{name}", _AFFINE
    if shortcut:
        yield f"{theirs}.nin_shortcut", f"{ours}.conv_shortcut", _AFFINE


def _vae_middle(end: str, prefix: str) -> Iterator[Move]:
    """List two residual blocks and an attention whose 1x1 convolutions are linear layers here."""
    ours = f"{end}.mid_block"
    for i in (0, 1):
        modules = _vae_residual(f"{end}.mid.block_{i + 1}", f"{ours}.resnets.{i}", False)
        yield from _moves(modules, prefix)
    theirs, ours = f"{end}.mid.attn_1", f"{ours}.attentions.0"
    yield from _moves([(f"{theirs}.norm", f"{ours}.group_norm", _AFFINE)], prefix)
    for a, b in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        weight, bias = f"{prefix}{theirs}.{a}.weight", f"{prefix}{theirs}.{a}.bias"
        yield Move(weight, (f"{ours}.{b}.weight",), pointwise=True)
        yield Move(bias, (f"{ours}.{b}.bias",))


def _vae_ends(end: str) -> Iterator[Module]:
    yield f"{end}.conv_in", f"{end}.conv_in", _AFFINE
    yield f"{end}.norm_out", f"{end}.conv_norm_out", _AFFINE
    yield f"{end}.conv_out", f"{end}.conv_out", _AFFINE


def _vae_encoder(layout: VAELayout, prefix: str) -> Iterator[Move]:
    modules: list[Module] = [*_vae_ends("encoder"), ("quant_conv", "quant_conv", _AFFINE)]
    for level, width in enumerate(layout.widths):
        theirs, ours = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
        before = layout.widths[max(level - 1, 0)]
        for j in range(layout.blocks):
            shortcut = j == 0 and before != width
            modules += _vae_residual(f"{theirs}.block.{j}", f"{ours}.resnets.{j}", shortcut)
        if level + 1 < len(layout.widths):
            modules.append((f"{theirs}.downsample.conv", f"{ours}.downsamplers.0.conv", _AFFINE))
    yield from _moves(modules, prefix)
    yield from _vae_middle("encoder", prefix)


def vae_table(layout: VAELayout) -> tuple[Move, ...]:
    """Table of the VAE; the released decoder counts its levels from the image's size."""
    modules: list[Module] = [
        *_vae_ends("decoder"),
        ("post_quant_conv", "post_quant_conv", _AFFINE),
    ]
    levels = len(layout.widths)
    for level, width in enumerate(layout.widths):
        theirs, ours = f"decoder.up.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        before = layout.widths[min(level + 1, levels - 1)]
        for j in range(layout.blocks + 1):
            shortcut = j == 0 and before != width
            modules += _vae_residual(f"{theirs}.block.{j}", f"{ours}.resnets.{j}", shortcut)
        if level > 0:
            modules.append((f"{theirs}.upsample.conv", f"{ours}.upsamplers.0.conv", _AFFINE))
    decoder = (*_moves(modules, VAE), *_vae_middle("decoder", VAE))
    return (*_vae_encoder(layout, VAE), *decoder)


def condition_encoder_table(layout: VAELayout) -> tuple[Move, ...]:
    """Table of the frozen copy of the VAE's encoder that encodes the initial image."""
    return tuple(_vae_encoder(layout, CONDITION_ENCODER))


def text_table(layout: TextLayout) -> tuple[Move, ...]:
    """Table of the text encoder without its last block, as Stable Diffusion 2 has it.

    Our names carry the prefix `text_model.`, under which every transformers release reads them.
    """
    modules: list[Module] = [
        ("token_embedding", "text_model.embeddings.token_embedding", _WEIGHT),
        ("ln_final", "text_model.final_layer_norm", _AFFINE),
    ]
    fused = []
    for i in range(layout.blocks - 1):
        theirs, ours = f"transformer.resblocks.{i}", f"text_model.encoder.layers.{i}"
        modules += [
            (f"{theirs}.ln_1", f"{ours}.layer_norm1", _AFFINE),
            (f"{theirs}.ln_2", f"{ours}.layer_norm2", _AFFINE),
            (f"{theirs}.attn.out_proj", f"{ours}.self_attn.out_proj", _AFFINE),
            (f"{theirs}.mlp.c_fc", f"{ours}.mlp.fc1", _AFFINE),
            (f"{theirs}.mlp.c_proj", f"{ours}.mlp.fc2", _AFFINE),
        ]
        fused += [
            Move(
                f"{TEXT}{theirs}.attn.in_proj_{leaf}",
                tuple(f"{ours}.self_attn.{letter}_proj.{leaf}" for letter in "qkv"),
                sizes=(layout.width,) * 3,
            )
            for leaf in _AFFINE
        ]
    position = "text_model.embeddings.position_embedding.weight"
    return Move(f"{TEXT}positional_embedding", (position,)), *fused, *_moves(modules, TEXT)


def unused_text_shapes(layout: TextLayout) -> dict[str, tuple[int, ...]]:
    """Return released keys and shapes that no feature depends on; they keep these names."""
    w, block = layout.width, f"{TEXT}transformer.resblocks.{layout.blocks - 1}"
    return {
        f"{TEXT}text_projection": (w, w),
        f"{TEXT}logit_scale": (),
        **{f"{block}.{norm}.{leaf}": (w,) for norm in ("ln_1", "ln_2") for leaf in _AFFINE},
        f"{block}.attn.in_proj_weight": (3 * w, w),
        f"{block}.attn.in_proj_bias": (3 * w,),
        f"{block}.attn.out_proj.weight": (w, w),
        f"{block}.attn.out_proj.bias": (w,),
        f"{block}.mlp.c_fc.weight": (4 * w, w),
        f"{block}.mlp.c_fc.bias": (4 * w,),
        f"{block}.mlp.c_proj.weight": (w, 4 * w),
        f"{block}.mlp.c_proj.bias": (w,),
    }


def codec_table(names: Mapping[str, str]) -> tuple[Move, ...]:
    """Table of the JSCC codec, from the `released_keys` of its class."""
    return tuple(Move(CODEC + theirs, (ours,)) for theirs, ours in names.items())

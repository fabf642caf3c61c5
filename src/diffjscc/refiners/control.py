"""Control module, and the denoiser of prior and control module.

Section III of the paper: a trained copy of the prior's encoder (ControlNet, Zhang et al.,
arXiv 2302.05543) takes the noisy latent and the condition latent, is conditioned on the SNR, and
adds residuals to the skip connections of the frozen prior.
"""

from __future__ import annotations

import inspect
import json
from typing import Self

from torch import Tensor, nn

from diffjscc.refiners.halves import encode_noisy, predict_from
from diffjscc.refiners.library import (
    ControlNetModel,
    TimestepEmbedding,
    UNet2DConditionModel,
    register_to_config,
)

# Settings that a control module shares with its prior.
SHARED = (
    "in_channels",
    "block_out_channels",
    "down_block_types",
    "mid_block_type",
    "layers_per_block",
    "attention_head_dim",
    "cross_attention_dim",
    "use_linear_projection",
    "norm_num_groups",
)
# Shared settings that differ between priors and have one notation only; they are compared.
COMPARED = (
    "in_channels",
    "block_out_channels",
    "down_block_types",
    "layers_per_block",
    "cross_attention_dim",
)


class SNREmbedding(TimestepEmbedding):
    """SNR embedding: linear, SiLU, linear on sines and cosines computed in float32."""

    def forward(self, sample: Tensor) -> Tensor:
        """Embed float32 [B, d] as [B, 4d] in the dtype of the weights."""
        embedded: Tensor = super().forward(sample.to(self.linear_1.bias.dtype))
        return embedded


class ControlModule(ControlNetModel):
    """ControlNet conditioned on the condition latent and the SNR.

    The first convolution takes cat(z_t, f_s), written as the sum of two convolutions. The SNR is
    scaled to snr_scale·snr_db - min_snr, embedded like a time step and added to the time embedding.

    Args:
        in_channels: channels of the noisy latent z_t.
        condition_channels: channels of the condition latent f_s.
        block_out_channels: channels per resolution; this and the next six arguments are those
            of the prior's UNet.
        down_block_types: block types of the encoder.
        mid_block_type: type of the middle block.
        layers_per_block: residual blocks per resolution.
        attention_head_dim: number of attention *heads* per resolution, named as in diffusers.
        cross_attention_dim: width of the text features.
        use_linear_projection: whether attention blocks project with linear layers.
        norm_num_groups: groups of each group norm.
        snr_embedding: whether the module is conditioned on the SNR.
        snr_scale: factor on the SNR in dB.
        min_snr: offset subtracted from the scaled SNR.
        snr_range_db: SNR range of training in dB, (low, high).
        distilled_steps: sampling steps that the module was distilled to, see
            `training.distillation`; None for one that was not.
    """

    @register_to_config
    def __init__(
        self,
        *,
        in_channels: int = 4,
        condition_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        down_block_types: tuple[str, ...] = (
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "DownBlock2D",
        ),
        mid_block_type: str = "UNetMidBlock2DCrossAttn",
        layers_per_block: int = 2,
        attention_head_dim: int | tuple[int, ...] = (5, 10, 20, 20),
        cross_attention_dim: int = 1024,
        use_linear_projection: bool = True,
        norm_num_groups: int = 32,
        snr_embedding: bool = True,
        snr_scale: float = 100.0,
        min_snr: float = 0.0,
        snr_range_db: tuple[float, float] = (0.0, 14.0),
        distilled_steps: int | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            block_out_channels=block_out_channels,
            down_block_types=down_block_types,
            mid_block_type=mid_block_type,
            layers_per_block=layers_per_block,
            attention_head_dim=attention_head_dim,
            cross_attention_dim=cross_attention_dim,
            use_linear_projection=use_linear_projection,
            norm_num_groups=norm_num_groups,
            class_embed_type="timestep" if snr_embedding else None,
        )
        del snr_scale, min_snr, snr_range_db, distilled_steps  # read from self.config
        width = block_out_channels[0]
        # Replaces diffusers' hint encoder; a bias would duplicate that of conv_in.
        self.controlnet_cond_embedding = nn.Conv2d(
            condition_channels, width, 3, padding=1, bias=False
        )
        if snr_embedding:
            self.class_embedding = SNREmbedding(width, 4 * width)

    @classmethod
    def for_prior(
        cls,
        unet: UNet2DConditionModel,
        *,
        condition_channels: int | None = None,
        snr_embedding: bool = True,
        snr_scale: float = 100.0,
        min_snr: float = 0.0,
        snr_range_db: tuple[float, float] = (0.0, 14.0),
    ) -> Self:
        """Create an untrained control module: the prior's encoder, with zero weights for f_s.

        Args:
            unet: the prior, whose architecture and encoder weights are copied.
            condition_channels: channels of the condition latent; the prior's own by default.
            snr_embedding: see the class.
            snr_scale: factor on the SNR in dB.
            min_snr: offset subtracted from the scaled SNR.
            snr_range_db: SNR range of training in dB, (low, high).
        """
        control: Self = cls(
            condition_channels=condition_channels or unet.config.in_channels,
            snr_embedding=snr_embedding,
            snr_scale=snr_scale,
            min_snr=min_snr,
            snr_range_db=snr_range_db,
            **{name: unet.config[name] for name in SHARED},
        )
        for part in ("conv_in", "time_embedding", "down_blocks", "mid_block"):
            getattr(control, part).load_state_dict(getattr(unet, part).state_dict())
        nn.init.zeros_(control.controlnet_cond_embedding.weight)
        return control

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Tensor,
        snr_db: Tensor,
        context: Tensor | None,
        *,
        control_scale: float = 1.0,
    ) -> tuple[list[Tensor], Tensor]:
        """Compute the residuals for the prior.

        Args:
            z_t: noisy latent [B, C, h, w].
            t: time step, int64 [B].
            condition: condition latent f_s [B, C', h, w].
            snr_db: effective SNR in dB, float32 [B].
            context: text features [B, L, d], or None without cross attention.
            control_scale: factor on all residuals.

        Returns:
            Residuals of the skip connections, first to last, and of the middle block.
        """
        labels = None
        if self.config.snr_embedding:
            labels = self.config.snr_scale * snr_db.float() - self.config.min_snr
        skips, middle = super().forward(
            z_t, t, context, condition, control_scale, labels, return_dict=False
        )
        return skips, middle

    def to_json_string(self) -> str:
        """Serialise the config without the settings of the parent class."""
        kept = {"_class_name", "_diffusers_version", *inspect.signature(type(self)).parameters}
        config = json.loads(super().to_json_string())
        return json.dumps({k: v for k, v in config.items() if k in kept}, indent=2) + "\n"


class Denoiser(nn.Module):
    """Noise prediction by prior and control module.

    Args:
        unet: the prior, predicting noise.
        control: a control module made for it.
        distilled: a second one, distilled to few steps without guidance, if any.

    Raises:
        ValueError: a control module was made for another prior.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        control: ControlModule,
        distilled: ControlModule | None = None,
    ) -> None:
        super().__init__()
        for module in (control, distilled):
            if module is not None:
                _check_made_for(unet, module)
        self.unet = unet
        self.control = control
        self.distilled = distilled

    @property
    def distilled_steps(self) -> int | None:
        """Sampling steps of the distilled control module; None without one."""
        return None if self.distilled is None else self.distilled.config.distilled_steps

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Tensor,
        snr_db: Tensor,
        context: Tensor | None,
        *,
        control_scale: float = 1.0,
        guidance_scale: float = 1.0,
        distilled: bool = False,
    ) -> Tensor:
        """Predict the noise [B, C, h, w]; arguments as in `ControlModule.forward`.

        `distilled` predicts with the distilled control module.

        At control_scale 0 the control module is not run. With a guidance_scale other than 1, see
        `DiffusionConfig.control_guidance_scale`, the prior alone predicts as well: both share
        the prior's encoder, and their decoders are one batch.
        """
        if control_scale == 0:
            skips, middle = None, None
        else:
            control = self.distilled if distilled else self.control
            assert control is not None
            skips, middle = control(z_t, t, condition, snr_db, context, control_scale=control_scale)
            if guidance_scale != 1:
                encoded = encode_noisy(self.unet, z_t, t, context)
                both = predict_from(self.unet, encoded.with_and_without(skips, middle))
                controlled, prior = both.chunk(2)
                return prior + guidance_scale * (controlled - prior)
        (noise,) = self.unet(
            z_t,
            t,
            context,
            down_block_additional_residuals=skips,
            mid_block_additional_residual=middle,
            return_dict=False,
        )
        predicted: Tensor = noise
        return predicted


def _check_made_for(unet: UNet2DConditionModel, control: ControlModule) -> None:
    """Raise ValueError unless a control module was made for a prior."""
    for name in COMPARED:
        ours, theirs = (_listed(model.config[name]) for model in (control, unet))
        if ours != theirs:
            raise ValueError(
                f"this control module was made for another prior: its {name} is {ours}, the "
                f"prior's {theirs}; load both from the same weights"
            )


def _listed(value: object) -> object:
    """Return a setting as in a config file, with lists in place of tuples."""
    return list(value) if isinstance(value, tuple) else value

"""The control module, and the frozen prior that it steers.

Section III of the paper: a trained copy of the prior's encoder (ControlNet, Zhang et al.,
arXiv 2302.05543) sees the noisy latent beside the condition latent and is told the SNR; what it
makes of them is added to the prior's skip connections.
"""

from __future__ import annotations

import inspect
import json
from typing import Self

from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding
from torch import Tensor, nn

# Settings that a control module takes over from its prior.
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
# Those of them that tell priors apart and are written in one way only.
COMPARED = (
    "in_channels",
    "block_out_channels",
    "down_block_types",
    "layers_per_block",
    "cross_attention_dim",
)


class SNREmbedding(TimestepEmbedding):
    """Linear, SiLU, Linear on sines and cosines that were computed in float32."""

    def forward(self, sample: Tensor) -> Tensor:
        """float32 [B, d] to [B, 4d] in the weights' dtype."""
        embedded: Tensor = super().forward(sample.to(self.linear_1.weight.dtype))
        return embedded


class ControlModule(ControlNetModel):
    """Noisy latent, step, condition latent, SNR and text to residuals for the prior.

    The first convolution takes cat(z_t, f_s), written as the sum of two convolutions. The SNR,
    as a = snr_scale·snr_db - min_snr, is embedded as a time step is and added to its embedding.

    Args:
        in_channels: channels of the noisy latent z_t.
        condition_channels: channels of the condition latent f_s.
        block_out_channels: widths; these and the next six arguments are the prior UNet's own.
        down_block_types: blocks of the encoder.
        mid_block_type: the middle block.
        layers_per_block: residual blocks per resolution.
        attention_head_dim: attention *heads* per resolution, as diffusers' UNet has it.
        cross_attention_dim: width of the text features.
        use_linear_projection: whether attention blocks project by linear layers.
        norm_num_groups: groups of every group norm.
        snr_embedding: whether the module is told the SNR.
        snr_scale: factor on the SNR in dB.
        min_snr: what is subtracted from the scaled SNR.
        snr_range_db: the SNR in dB that the weights were trained for.
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
        del snr_scale, min_snr, snr_range_db  # read from self.config
        width = block_out_channels[0]
        # In place of diffusers' hint encoder; its bias would be conv_in's once more.
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
        """An untrained control module: the prior's encoder, blind to the condition as yet.

        Args:
            unet: the prior, whose architecture and encoder weights are taken over.
            condition_channels: channels of the condition latent; the prior's own by default.
            snr_embedding: see the class, as for the other arguments.
            snr_scale: factor on the SNR in dB.
            min_snr: what is subtracted from the scaled SNR.
            snr_range_db: the SNR in dB that it is going to be trained for.
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
        """Residuals for the prior.

        Args:
            z_t: noisy latent [B, C, h, w].
            t: time step, int64 [B].
            condition: condition latent f_s [B, C', h, w].
            snr_db: effective SNR in dB, float32 [B].
            context: text features [B, L, d], or None where no block attends to text.
            control_scale: factor on all residuals.

        Returns:
            Those for the skip connections, first to last, and that for the middle block.
        """
        labels = None
        if self.config.snr_embedding:
            labels = self.config.snr_scale * snr_db.float() - self.config.min_snr
        skips, middle = super().forward(
            z_t, t, context, condition, control_scale, labels, return_dict=False
        )
        return skips, middle

    def to_json_string(self) -> str:
        """The config without what the parent class noted for itself."""
        kept = {"_class_name", "_diffusers_version", *inspect.signature(type(self)).parameters}
        config = json.loads(super().to_json_string())
        return json.dumps({k: v for k, v in config.items() if k in kept}, indent=2) + "\n"


class Denoiser(nn.Module):
    """Prior and control module as one function: the noise that a noisy latent holds.

    Args:
        unet: the prior, predicting noise.
        control: a control module for it.

    Raises:
        ValueError: the control module is one of another prior.
    """

    def __init__(self, unet: UNet2DConditionModel, control: ControlModule) -> None:
        super().__init__()
        for name in COMPARED:
            ours, theirs = (_listed(model.config[name]) for model in (control, unet))
            if ours != theirs:
                raise ValueError(
                    f"this control module was made for another prior: its {name} is {ours}, the "
                    f"prior's {theirs}; load both from the same weights"
                )
        self.unet = unet
        self.control = control

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Tensor,
        snr_db: Tensor,
        context: Tensor | None,
        *,
        control_scale: float = 1.0,
    ) -> Tensor:
        """See `ControlModule.forward`; returns the noise predicted, [B, C, h, w].

        At control_scale 0 the prior is alone and the control module is not run.
        """
        skips, middle = None, None
        if control_scale != 0:
            skips, middle = self.control(
                z_t, t, condition, snr_db, context, control_scale=control_scale
            )
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


def _listed(value: object) -> object:
    """A setting as a config file has it, with lists for tuples."""
    return list(value) if isinstance(value, tuple) else value

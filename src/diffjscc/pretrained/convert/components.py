"""The networks of a released checkpoint, from its config: shapes and tables of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from diffjscc.pretrained.convert.config import ReleasedConfig
from diffjscc.pretrained.convert.keys import (
    Move,
    condition_encoder_table,
    control_table,
    text_table,
    unet_table,
    vae_table,
)
from diffjscc.pretrained.networks import Network
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.latents import ConditionEncoder
from diffjscc.refiners.library import AutoencoderKL, DDPMScheduler, UNet2DConditionModel


@dataclass(frozen=True)
class Component(Network):
    """A network of a checkpoint, on the meta device.

    Attributes:
        table: the released tensors that it is made of.
    """

    table: tuple[Move, ...]


def components(config: ReleasedConfig) -> list[Component]:
    """Build the networks of a released checkpoint except the codec, on the meta device."""
    unet, control, vae, text = config.unet, config.control, config.vae, config.text_tiny
    encoder_settings = {
        "down_block_types": ("DownEncoderBlock2D",) * len(vae.ch_mult),
        "block_out_channels": vae.layout.widths,
        "layers_per_block": vae.num_res_blocks,
        "latent_channels": vae.z_channels,
        "norm_num_groups": 32,
        "scaling_factor": config.params.scale_factor,
    }
    with torch.device("meta"):
        prior = UNet2DConditionModel(
            out_channels=unet.out_channels,
            sample_size=config.params.image_size,
            up_block_types=tuple(
                "CrossAttnUpBlock2D" if attention else "UpBlock2D"
                for attention in reversed(unet.layout.attention)
            ),
            **unet.shared_settings,
        )
        autoencoder = AutoencoderKL(
            up_block_types=("UpDecoderBlock2D",) * len(vae.ch_mult),
            sample_size=vae.resolution,
            **encoder_settings,
        )
        module = ControlModule(
            condition_channels=control.hint_channels,
            snr_scale=control.snr_scale,
            min_snr=control.min_snr,
            snr_range_db=(config.codec.snr_low, config.codec.snr_high),
            **control.shared_settings,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=text.width,
                intermediate_size=4 * text.width,
                num_hidden_layers=text.layers - 1,
                num_attention_heads=text.heads,
                projection_dim=text.width,
                hidden_act="gelu",
            )
        )
        condition_encoder = ConditionEncoder(**encoder_settings)
    return [
        Component("unet", prior, unet_table(unet.layout)),
        Component("vae", autoencoder, vae_table(vae.layout)),
        Component("control", module, control_table(unet.layout)),
        Component("text_encoder", text_encoder, text_table(text.layout)),
        Component("condition_encoder", condition_encoder, condition_encoder_table(vae.layout)),
    ]


def save_scheduler(config: ReleasedConfig, folder: Path) -> None:
    """Write the paper's schedule as diffusers' `DDPMScheduler`."""
    DDPMScheduler(
        num_train_timesteps=config.params.timesteps,
        beta_start=config.params.linear_start,
        beta_end=config.params.linear_end,
        beta_schedule="scaled_linear",
        variance_type="fixed_small",
        clip_sample=False,
        timestep_spacing="linspace",
        prediction_type="epsilon",
    ).save_config(folder)

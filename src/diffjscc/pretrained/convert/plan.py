"""The plan of a conversion: the place of each released tensor, and which of them do not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffjscc.codecs.deepjscc import DeepJSCC
from diffjscc.codecs.deepjscc import released_keys as cnn_keys
from diffjscc.codecs.joint import JointCodec
from diffjscc.codecs.swin import SwinJSCC, released_constants
from diffjscc.codecs.swin import released_keys as swin_keys
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.convert.components import components
from diffjscc.pretrained.convert.config import ReleasedConfig
from diffjscc.pretrained.convert.keys import (
    CODEC,
    CONDITION_ENCODER,
    CONTROL,
    SCHEDULE,
    TEXT,
    UNET,
    VAE,
    Move,
    codec_table,
    unused_text_shapes,
)
from diffjscc.pretrained.storage import compare


def codec_names(codec: JointCodec) -> tuple[dict[str, str], frozenset[str]]:
    """Map a codec's released names to ours; also return the released names of its constants."""
    if isinstance(codec, DeepJSCC):
        return cnn_keys(codec.config), frozenset()
    if isinstance(codec, SwinJSCC):
        return swin_keys(codec.config), released_constants(codec.config)
    raise TypeError(f"{type(codec).__name__} was never released")


# Modules of BLIP-2 by their names in transformers and in LAVIS. A checkpoint may hold the captioner
# under any prefix; it is not converted, since captioners are downloaded on their own.
_CAPTIONER = frozenset(
    (
        *("vision_model", "qformer", "language_model", "language_projection", "query_tokens"),
        *("visual_encoder", "ln_vision", "Qformer", "opt_model", "opt_proj", "t5_model", "t5_proj"),
    )
)
_OURS = (UNET, CONTROL, VAE, CONDITION_ENCODER, TEXT, CODEC)


def tolerated(key: str) -> bool:
    """Return whether a released tensor is passed over: left by training, or computable."""
    parts = key.split(".")
    extra = parts[-1] in ("lvlb_weights", "logvar", "attn_mask")
    captioner = not key.startswith(_OURS) and not _CAPTIONER.isdisjoint(parts)
    return key in SCHEDULE or extra or captioner or any(part.startswith("lpips") for part in parts)


def schedule_buffers(config: ReleasedConfig) -> dict[str, Tensor]:
    """Compute the 13 buffers of the noise schedule, float32 [timesteps], from its two ends."""
    params = config.params
    ends = math.sqrt(params.linear_start), math.sqrt(params.linear_end)
    beta = torch.linspace(*ends, params.timesteps, dtype=torch.float64).square()
    after = torch.cumprod(1 - beta, 0)
    before = torch.cat((torch.ones(1, dtype=torch.float64), after[:-1]))
    variance = beta * (1 - before) / (1 - after)
    values = (
        *(beta, after, before, after.sqrt(), (1 - after).sqrt(), (1 - after).log()),
        *((1 / after).sqrt(), (1 / after - 1).sqrt()),
        *(variance, variance.clamp(min=1e-20).log()),
        beta * before.sqrt() / (1 - after),
        (1 - before) * (1 - beta).sqrt() / (1 - after),
        torch.zeros_like(beta),
    )
    return {key: value.float() for key, value in zip(SCHEDULE, values, strict=True)}


class Plan:
    """The place of every tensor of a checkpoint with these settings, on the meta device.

    Args:
        config: the checked config.yaml.

    Attributes:
        config: the checked config.yaml.
        codec: the codec, on the meta device.
        networks: the other networks, on the meta device.
        tables: the moves of each folder's tensors.
        unused: released tensors that are kept and not used.
        optional: names of released tensors that are kept if the checkpoint has them.
    """

    def __init__(self, config: ReleasedConfig) -> None:
        self.config = config
        with torch.device("meta"):
            self.codec = build_codec(config.codec.description)
        names, constants = codec_names(self.codec)
        self.networks = components(config)
        self.tables: dict[str, tuple[Move, ...]] = {"codec": codec_table(names)}
        self.tables |= {network.folder: network.table for network in self.networks}
        self.unused = {
            key: torch.empty(shape, device="meta")
            for key, shape in unused_text_shapes(config.text_tiny.layout).items()
        }
        self.optional = {CODEC + key for key in constants}

    def refiner(self, shared: bool) -> dict[str, Any]:
        """Return refiner.json's content; `shared`: the condition encoder is the VAE's."""
        config = self.config
        return {
            "class": "ControlledDiffusion",
            "condition_encoder": "vae" if shared else "condition_encoder",
            "text_encoder": True,
            "scaling_factor": config.params.scale_factor,
            "snr_scale": config.control.snr_scale,
            "min_snr": config.control.min_snr,
            "clamp_snr": False,  # the released code passes any SNR to the control module
            "snr_range_db": [config.codec.snr_low, config.codec.snr_high],
        }

    def released(self) -> dict[str, Tensor]:
        """Return meta tensors of the whole checkpoint by their released names."""
        state = dict(self.unused)
        ours = {"codec": dict(self.codec.state_dict())}
        ours |= {network.folder: network.tensors for network in self.networks}
        for folder, table in self.tables.items():
            state |= {move.released: move.to_released(ours[folder]) for move in table}
        return state

    def check(self, state: Mapping[str, Tensor], where: str) -> None:
        """Raise MismatchError unless `state` has all tensors, in their shapes, and no others."""
        expected = self.released()
        extra = {key for key in state.keys() - expected.keys() if tolerated(key)} | self.optional
        compare(expected, {key: state[key] for key in state.keys() - extra}, where)

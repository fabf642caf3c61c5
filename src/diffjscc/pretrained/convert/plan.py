"""What becomes of each tensor of a released checkpoint, and which of them do not fit."""

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
    """A codec's released names to ours, and released names of what nobody has to learn."""
    if isinstance(codec, DeepJSCC):
        return cnn_keys(codec.config), frozenset()
    if isinstance(codec, SwinJSCC):
        return swin_keys(codec.config), released_constants(codec.config)
    raise TypeError(f"{type(codec).__name__} was never released")


# Modules of BLIP-2, as transformers and as LAVIS name them: a checkpoint may hold the captioner
# under any prefix, or not at all, and captions are made by one that is fetched apart.
_CAPTIONER = frozenset(
    (
        *("vision_model", "qformer", "language_model", "language_projection", "query_tokens"),
        *("visual_encoder", "ln_vision", "Qformer", "opt_model", "opt_proj", "t5_model", "t5_proj"),
    )
)
_OURS = (UNET, CONTROL, VAE, CONDITION_ENCODER, TEXT, CODEC)


def tolerated(key: str) -> bool:
    """Whether a released tensor is left by training or can be computed: it is passed over."""
    parts = key.split(".")
    extra = parts[-1] in ("lvlb_weights", "logvar", "attn_mask")
    captioner = not key.startswith(_OURS) and not _CAPTIONER.isdisjoint(parts)
    return key in SCHEDULE or extra or captioner or any(part.startswith("lpips") for part in parts)


def schedule_buffers(config: ReleasedConfig) -> dict[str, Tensor]:
    """The 13 buffers of the noise schedule, float32 [timesteps], from its two ends."""
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
    """All tensors of a checkpoint with these settings: what becomes of them, on the meta device.

    Args:
        config: the checked config.yaml.

    Attributes:
        config: the same.
        codec: the codec without numbers.
        networks: the other networks without numbers.
        tables: by folder, the moves of its tensors.
        unused: released tensors that are kept and not used.
        optional: names of released tensors that are kept where they are there.
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
        """What the receiver must know beside the networks; `shared`: one VAE encoder for both."""
        config = self.config
        return {
            "class": "ControlledDiffusion",
            "condition_encoder": "vae" if shared else "condition_encoder",
            "text_encoder": True,
            "scaling_factor": config.params.scale_factor,
            "snr_scale": config.control.snr_scale,
            "min_snr": config.control.min_snr,
            "clamp_snr": False,  # the released code tells the control module any SNR as it is
            "snr_range_db": [config.codec.snr_low, config.codec.snr_high],
        }

    def released(self) -> dict[str, Tensor]:
        """Meta tensors of the whole checkpoint by their released names."""
        state = dict(self.unused)
        ours = {"codec": dict(self.codec.state_dict())}
        ours |= {network.folder: network.tensors for network in self.networks}
        for folder, table in self.tables.items():
            state |= {move.released: move.to_released(ours[folder]) for move in table}
        return state

    def check(self, state: Mapping[str, Tensor], where: str) -> None:
        """Raise MismatchError unless `state` is complete, fits and holds nothing else."""
        expected = self.released()
        extra = {key for key in state.keys() - expected.keys() if tolerated(key)} | self.optional
        compare(expected, {key: state[key] for key in state.keys() - extra}, where)

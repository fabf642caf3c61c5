"""Components of a diffusion receiver on disk: a library's config beside sharded safetensors.

    FOLDER/config.json
    FOLDER/<stem>.safetensors.index.json     which tensor lies in which file
    FOLDER/<stem>-<hash>.safetensors         one or more, 2 GB at most unless a tensor is larger

diffusers and transformers read such a folder with `from_pretrained`. The hash is the start of the
file's SHA-256, as in `pretrained`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from diffjscc.data.files import sha256_of
from diffjscc.models.keys import (
    Move,
    condition_encoder_table,
    control_table,
    text_table,
    unet_table,
    vae_table,
)
from diffjscc.models.pretrained import WeightsError, read_json, write_json
from diffjscc.models.released_config import ReleasedConfig
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.latents import ConditionEncoder

SHARD_BYTES = 2_000_000_000
DIFFUSERS_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"


@dataclass(frozen=True)
class Component:
    """A network of a checkpoint, as yet without numbers.

    Attributes:
        folder: its folder's name.
        model: the network on the meta device: names, shapes and config.
        table: which released tensors it is made of.
        stem: how the library that reads it names its files.
        prefix: what its names on disk begin with, whatever the library's release calls them.
    """

    folder: str
    model: UNet2DConditionModel | AutoencoderKL | ControlModule | ConditionEncoder | CLIPTextModel
    table: tuple[Move, ...]
    stem: str = DIFFUSERS_STEM
    prefix: str = ""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Meta tensors of the network by their names on disk."""
        return self.named(self.model.state_dict())

    def named(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of the network by the names on disk."""
        return {self.prefix + key.removeprefix(self.prefix): value for key, value in state.items()}

    def save_config(self, folder: Path) -> None:
        """Write the library's config.json."""
        if isinstance(self.model, CLIPTextModel):
            self.model.config.save_pretrained(folder)
        else:
            self.model.save_config(folder)


def components(config: ReleasedConfig) -> list[Component]:
    """The networks of a released checkpoint but the codec, on the meta device."""
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
                architectures=["CLIPTextModel"],
                hidden_size=text.width,
                intermediate_size=4 * text.width,
                num_hidden_layers=text.layers - 1,
                num_attention_heads=text.heads,
                projection_dim=text.width,
                hidden_act="gelu",
            )
        )
        condition_encoder = ConditionEncoder(**encoder_settings)
    text_moves, stem = text_table(text.layout), TRANSFORMERS_STEM
    return [
        Component("unet", prior, unet_table(unet.layout)),
        Component("vae", autoencoder, vae_table(vae.layout)),
        Component("control", module, control_table(unet.layout)),
        Component("text_encoder", text_encoder, text_moves, stem, "text_model."),
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


def write_shards(
    tensors: Mapping[str, Tensor],
    folder: Path,
    stem: str,
    advance: Callable[[int], None],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write float32 tensors and their index; only one shard's worth is in memory at a time.

    Args:
        tensors: by their names on disk.
        folder: an existing folder.
        stem: see the module.
        advance: is told the bytes of every shard that is written.
        shard_bytes: the most that one file holds, unless a single tensor is larger.

    Raises:
        OSError: a file could not be written.
    """
    plan = split_torch_state_dict_into_shards(dict(tensors), max_shard_size=shard_bytes)
    files = {}
    for keys in plan.filename_to_tensors.values():
        shard = {key: tensors[key].float().contiguous() for key in keys}
        unfinished = folder / f".{stem}.unfinished.safetensors"
        try:
            save_file(shard, unfinished, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"{unfinished} cannot be written: {error}") from error
        unfinished.chmod(folder.stat().st_mode & 0o666)  # safetensors gives its owner alone access
        name = f"{stem}-{sha256_of(unfinished)[:8]}.safetensors"
        unfinished.replace(folder / name)
        files.update(dict.fromkeys(keys, name))
        advance(sum(tensor.nbytes for tensor in shard.values()))
    total = sum(tensors[key].numel() * 4 for key in files)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
    write_json(folder / f"{stem}.safetensors.index.json", index)


def read_shards(folder: Path, stem: str) -> dict[str, Tensor]:
    """Tensors of a component's folder, in shards or in one file; they stay in the file.

    Raises:
        WeightsError: missing or damaged files.
    """
    index = folder / f"{stem}.safetensors.index.json"
    names = {f"{stem}.safetensors"}
    if index.exists():
        names = set(read_json(index).get("weight_map", {}).values())
    tensors: dict[str, Tensor] = {}
    for name in sorted(names):
        path = folder / Path(name).name
        try:
            expected, digest = re.search(r"-([0-9a-f]{8})$", path.stem), sha256_of(path)
            if expected and not digest.startswith(expected[1]):
                raise WeightsError(
                    f"{path} is damaged: its SHA-256 starts with {digest[:8]}; fetch it again"
                )
            with safe_open(path, "pt") as file:
                tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
        except SafetensorError as error:
            raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    return tensors

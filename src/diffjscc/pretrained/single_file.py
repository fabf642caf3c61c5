"""Priors in one file, as Stable Diffusion 2.1-base was published: `.safetensors` or `.ckpt`.

The file holds UNet, VAE and text encoder under the names of their training's code, and no settings:
those are Stable Diffusion 2's, with the sizes that the tensors have. diffusers' converter renames
the tensors. A `.ckpt` is read as data, and nothing in it is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from diffjscc.choices import Prediction
from diffjscc.pretrained.convert.checkpoint import state_tensors
from diffjscc.pretrained.convert.checkpoint_file import open_checkpoint
from diffjscc.pretrained.convert.keys import TEXT, UNET, VAE
from diffjscc.pretrained.networks import Model, Network
from diffjscc.pretrained.storage import WeightsError, compare

SUFFIXES = (".safetensors", ".ckpt")
_HEAD_WIDTH = 64  # features per attention head
_SCALING_FACTOR = 0.18215
# Steps of the training after which files were published.
_STEPS: dict[object, Prediction] = {875_000: "epsilon", 110_000: "v_prediction"}
_WORDS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "velocity": "v_prediction",
    "stable-diffusion-v2-512": "epsilon",
    "stable-diffusion-v2-768-v": "v_prediction",
}
# Name of a file that predicts v, where neither metadata nor the user say otherwise.
_NAME_OF_V = re.compile(r"768|v-?pred", re.IGNORECASE)


def is_single_file(source: str) -> bool:
    """Return whether a prior's source has the form of one file: it is a file, or named as one."""
    path = Path(source)
    return path.is_file() or (path.suffix.lower() in SUFFIXES and not path.is_dir())


@dataclass(frozen=True)
class SingleFile:
    """A prior in one file, its tensors read when they are used.

    Attributes:
        path: the file.
        tensors: by their names in the file.
        metadata: the header's notes of a .safetensors; the step of a .ckpt as "global_step".
    """

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, object]

    @classmethod
    def open(cls, source: str) -> SingleFile:
        """Open a file and check that it has the parts of Stable Diffusion 2.

        Raises:
            WeightsError: missing, damaged, of another format or of another model.
        """
        path = Path(source)
        if not path.is_file():
            raise WeightsError(f"{path} does not exist; give the file of a prior, or its folder")
        if path.suffix.lower() not in SUFFIXES:
            raise WeightsError(f"{path} is no prior; one file of one is {' or '.join(SUFFIXES)}")
        if path.suffix.lower() == ".ckpt":
            checkpoint = open_checkpoint(path)
            content = checkpoint.content
            step = content.get("global_step") if isinstance(content, dict) else None
            opened = cls(path, state_tensors(checkpoint), {"global_step": step})
        else:
            opened = cls(path, *_open_safetensors(path))
        for prefix, part in ((UNET, "UNet"), (VAE, "VAE"), (TEXT, "OpenCLIP text encoder")):
            if not any(key.startswith(prefix) for key in opened.tensors):
                raise WeightsError(
                    f"{path} has no {part} ({prefix}…); a whole Stable Diffusion 2.1-base is needed"
                )
        return opened

    def check_prediction(self, stated: Prediction | None) -> None:
        """Check that the prior predicts noise.

        Args:
            stated: the user's statement, which counts where the file says nothing.

        Raises:
            WeightsError: it predicts v, or nothing says what it predicts.
        """
        prediction, reason = self._prediction()
        if prediction is None and stated is not None:
            prediction, reason = stated, "by prior_prediction"
        elif prediction is None and _NAME_OF_V.search(self.path.name):
            prediction, reason = "v_prediction", "by its name"
        if prediction is None:
            raise WeightsError(
                f"nothing in {self.path} says what it predicts; set prior_prediction=epsilon if it "
                "is Stable Diffusion 2.1-base (512 pixels) or was made from it. Stable Diffusion "
                "2.1 (768 pixels) predicts v and cannot be used"
            )
        if prediction != "epsilon":
            raise WeightsError(
                f"the prior {self.path} predicts 'v_prediction' ({reason}) and cannot be used; "
                "give one such as Stable Diffusion 2.1-base, which predicts noise (2.1 does not)"
            )

    def _prediction(self) -> tuple[Prediction | None, str]:
        """Return what the file says that it predicts, and where."""
        for key in ("modelspec.prediction_type", "modelspec.architecture"):
            word = str(self.metadata.get(key, "")).lower()
            if word in _WORDS:
                return _WORDS[word], f"its metadata has {key} = {word}"
        if "v_pred" in self.tensors:
            return "v_prediction", "it has a tensor v_pred"
        step = self.metadata.get("global_step")
        if isinstance(step, int) and step in _STEPS:
            return _STEPS[step], f"it was trained for {step} steps"
        return None, ""

    def network(self, name: str) -> Model:
        """Load "unet", "vae" or "text_encoder", float32.

        Raises:
            WeightsError: tensors that are not those of Stable Diffusion 2, of any size.
        """
        prefix = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}[name]
        # Copies: a mapped file cannot be written to, and may go away.
        state = {
            key: value.to(torch.float32, copy=True)
            for key, value in self.tensors.items()
            if key.startswith(prefix) and value.is_floating_point()
        }
        build = {"unet": _unet, "vae": _vae, "text_encoder": _text_encoder}[name]
        named = {key.removeprefix(prefix): value for key, value in state.items()}
        try:
            with init_empty_weights(include_buffers=False):
                network = Network(name, build(named))
            converted = _converted(network, state, prefix)
        except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{self.path}: its {name.replace('_', ' ')} is not that of Stable Diffusion 2 "
                f"({type(error).__name__}: {error})"
            ) from error
        compare(network.tensors, converted, f"{self.path} ({name})")
        model = network.model
        model.load_state_dict(
            {key: converted[network.on_disk(key)] for key in model.state_dict()}, assign=True
        )
        return model


class _SafeTensors(Mapping[str, Tensor]):
    """Tensors of a .safetensors file, each read when it is used."""

    def __init__(self, path: Path) -> None:
        self._file = cast("Any", safe_open(path, "pt"))
        self._names = set(self._file.keys())

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._names:
            raise KeyError(key)
        tensor: Tensor = self._file.get_tensor(key)
        return tensor

    def __iter__(self) -> Any:  # noqa: ANN401 - an iterator of names
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def metadata(self) -> dict[str, object]:
        """Notes in the file's header."""
        return dict(self._file.metadata() or {})


def _open_safetensors(path: Path) -> tuple[Mapping[str, Tensor], Mapping[str, object]]:
    try:
        tensors = _SafeTensors(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}; fetch it again") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    return tensors, tensors.metadata


def _converted(network: Network, state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Rename a part's tensors to those of the network; no number may be left over."""
    model = network.model
    if isinstance(model, UNet2DConditionModel):
        converted: dict[str, Tensor] = convert_ldm_unet_checkpoint(state, model.config)
    elif isinstance(model, AutoencoderKL):
        converted = convert_ldm_vae_checkpoint(state, model.config)
        # Attention by 1x1 convolutions in the file, by linear layers here.
        linear = {key for key, value in network.tensors.items() if value.ndim == 2}
        converted = {
            key: value.flatten(1) if key in linear else value for key, value in converted.items()
        }
    else:
        # The last block, which nothing reads, is left out, as is what follows the text features.
        last = f"transformer.resblocks.{network.model.config.num_hidden_layers}."
        unread = ("text_projection", "logit_scale")
        state = {
            key: value
            for key, value in state.items()
            if not key.removeprefix(prefix).startswith((last, *unread))
        }
        converted = convert_open_clip_checkpoint(model, state, prefix)
    given, taken = (sum(value.numel() for value in some.values()) for some in (state, converted))
    if given != taken:
        raise ValueError(f"{given:,} numbers are in the file and {taken:,} are used")
    return converted


def _unet(state: Mapping[str, Tensor]) -> UNet2DConditionModel:
    """Build the UNet that tensors under their names in the file are of."""
    levels: list[list[int]] = [[]]
    for i in count(1):
        if f"input_blocks.{i}.0.op.weight" in state:
            levels.append([])
        elif f"input_blocks.{i}.0.in_layers.0.weight" in state:
            levels[-1].append(i)
        else:
            break
    first = [level[0] for level in levels]
    attention = [f"input_blocks.{i}.1.norm.weight" in state for i in first]
    attended = _first(state, r"attn2\.to_k\.weight")
    widths = tuple(len(state[f"input_blocks.{i}.0.out_layers.3.weight"]) for i in first)
    return UNet2DConditionModel(
        in_channels=state["input_blocks.0.0.weight"].shape[1],
        out_channels=len(state["out.2.weight"]),
        block_out_channels=widths,
        down_block_types=tuple(
            "CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attention
        ),
        up_block_types=tuple(
            "CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention)
        ),
        layers_per_block=len(levels[0]),
        attention_head_dim=tuple(max(width // _HEAD_WIDTH, 1) for width in widths),
        cross_attention_dim=attended.shape[1],
        use_linear_projection=_first(state, r"1\.proj_in\.weight").ndim == 2,
    )


def _vae(state: Mapping[str, Tensor]) -> AutoencoderKL:
    """Build the VAE that tensors under their names in the file are of."""
    widths = []
    for level in count():
        key = f"encoder.down.{level}.block.0.conv1.weight"
        if key not in state:
            break
        widths.append(len(state[key]))
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=tuple(widths),
        layers_per_block=_blocks(state, "encoder.down.0.block."),
        latent_channels=state["post_quant_conv.weight"].shape[1],
        scaling_factor=_SCALING_FACTOR,
    )


def _text_encoder(state: Mapping[str, Tensor]) -> CLIPTextModel:
    """Build the text encoder, without its last block, that tensors in the file are of."""
    vocabulary, width = state["token_embedding.weight"].shape
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=len(state["transformer.resblocks.0.mlp.c_fc.weight"]),
            num_hidden_layers=_blocks(state, "transformer.resblocks.") - 1,
            num_attention_heads=max(width // _HEAD_WIDTH, 1),
            max_position_embeddings=len(state["positional_embedding"]),
            projection_dim=width,
            hidden_act="gelu",
        )
    )


def _first(state: Mapping[str, Tensor], pattern: str) -> Tensor:
    """Return the first tensor whose name a pattern is in."""
    return state[next(key for key in sorted(state) if re.search(pattern, key))]


def _blocks(names: Iterable[str], prefix: str) -> int:
    """Count the numbered blocks under a prefix."""
    numbered = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return len({name.split(".")[0] for name in numbered})

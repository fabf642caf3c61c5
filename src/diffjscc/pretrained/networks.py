"""The networks of a diffusion receiver on disk: a library's config beside sharded safetensors.

    FOLDER/config.json
    FOLDER/<stem>.safetensors.index.json     see `storage`
    FOLDER/<stem>-<hash>.safetensors …

diffusers and transformers read such a folder with `from_pretrained`, unless it is stored as int8.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from diffjscc.configuration import closest
from diffjscc.pretrained.storage import WeightsError, compare, read_json, read_shards, write_shards
from diffjscc.pretrained.uninitialised import Uninitialised
from diffjscc.refiners.bias_free import BiasFreeDenoiser
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.latents import ConditionEncoder
from diffjscc.refiners.library import DDPMScheduler, UNet2DConditionModel
from diffjscc.refiners.vae import VAE, VAES

if TYPE_CHECKING:
    from transformers import CLIPTextModel

Model: TypeAlias = (
    "UNet2DConditionModel | ControlModule | CLIPTextModel | VAE | ConditionEncoder"
    " | BiasFreeDenoiser"
)

DISTILLED = "distilled"  # a second control module, see `ControlModule`
TEXT_ENCODER = "text_encoder"  # the folder of the only network that needs transformers
# The largest networks come first, so that they are loaded first: while a network is loaded, its
# file is in memory beside those loaded before it.
FOLDERS = ("unet", "control", DISTILLED, TEXT_ENCODER, "vae", "condition_encoder")
DENOISER = "denoiser"  # the folder of `train denoiser`; no part of the diffusion receiver
# Settings of CLIPTextConfig that describe the network. Others are passed over: some of them make
# transformers download code.
TEXT_SETTINGS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
# Classes of the network in each folder, but for the text encoder's.
_CLASSES: dict[str, tuple[type[Model], ...]] = {
    "unet": (UNet2DConditionModel,),
    "control": (ControlModule,),
    DISTILLED: (ControlModule,),
    "vae": VAES,
    "condition_encoder": (ConditionEncoder,),
    DENOISER: (BiasFreeDenoiser,),
}
# Exceptions of the libraries for a setting whose value makes no network.
_BAD_VALUES = (
    *(TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, AttributeError),
    StrictDataclassError,
)


@dataclass(frozen=True)
class Network:
    """A network and its form on disk.

    Attributes:
        folder: its folder's name; one of `FOLDERS`, or `DENOISER`.
        model: the network; before it is loaded it has only names, shapes and a config.
    """

    folder: str
    model: Model

    @property
    def stem(self) -> str:
        """Stem of its file names, as the library that reads it expects."""
        return "model" if self.folder == TEXT_ENCODER else "diffusion_pytorch_model"

    @property
    def prefix(self) -> str:
        """Prefix of its tensors' names on disk, the same for every release of the library."""
        return "text_model." if self.folder == TEXT_ENCODER else ""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The network's tensors by their names on disk."""
        return self.named(self.model.state_dict())

    def named(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename a state dict of the network to the names on disk."""
        return {self.on_disk(key): value for key, value in state.items()}

    def on_disk(self, key: str) -> str:
        """Return the name on disk of a tensor of the network."""
        return self.prefix + key.removeprefix(self.prefix)

    def save_config(self, folder: Path) -> None:
        """Write the library's config.json."""
        if self.folder == TEXT_ENCODER:
            self.model.config.architectures = [type(self.model).__name__]
            self.model.config.save_pretrained(folder)
        else:
            self.model.save_config(folder)


def load_network(weights: Path, name: str, place: Callable[[Tensor], Tensor]) -> Model:
    """Load a network, each tensor directly to its device and type.

    Args:
        weights: the folder of weights.
        name: the network's folder; one of `FOLDERS`, or `DENOISER`.
        place: moves a tensor in a file to its device and type.

    Raises:
        WeightsError: missing or damaged files, or a config that names another class, unknown
            settings or values, or is not that of the tensors.
    """
    folder = weights / name
    network = Network(name, _without_numbers(name, folder / "config.json"))
    tensors = network.named(read_shards(folder, network.stem))
    compare(network.tensors, tensors, str(folder))
    # Taken out one by one, so that a file is let go of when its last tensor has been placed.
    state = {key: place(tensors.pop(network.on_disk(key))) for key in network.model.state_dict()}
    network.model.load_state_dict(state, assign=True)
    return network.model


def save_network(network: Network, weights: Path, dtype: torch.dtype) -> None:
    """Write a network's folder; floating-point tensors are stored as `dtype`, see `storage`."""
    folder = weights / network.folder
    folder.mkdir(exist_ok=True)
    network.save_config(folder)
    write_shards(network.tensors, folder, network.stem, dtype=dtype)


def load_scheduler(folder: Path) -> DDPMScheduler:
    """Load the noise schedule of a folder that diffusers' `DDPMScheduler` saved.

    Raises:
        WeightsError: missing, of another class, or with settings that cannot be.
    """
    path = folder / "scheduler_config.json"
    kind, values = _read_config(path, (DDPMScheduler,))
    settings = _known_settings(kind, values, path)
    try:
        return DDPMScheduler(**settings)
    except _BAD_VALUES as error:
        raise _no_network(path, error) from error


def _without_numbers(name: str, path: Path) -> Model:
    """Build the network that a config.json describes, without values."""
    if name == TEXT_ENCODER:
        return _text_encoder(path)
    kind, values = _read_config(path, _CLASSES[name])
    settings = _known_settings(kind, values, path)
    try:
        with Uninitialised():
            model: Model = kind(**settings)
    except _BAD_VALUES as error:
        raise _no_network(path, error) from error
    return model


def _text_encoder(path: Path) -> CLIPTextModel:
    """Build the text encoder that a config.json describes, its parameters on the meta device."""
    from accelerate import init_empty_weights  # noqa: PLC0415 - few priors read text
    from transformers import CLIPTextConfig, CLIPTextModel  # noqa: PLC0415

    _, values = _read_config(path, (CLIPTextModel,))
    settings = {key: value for key, value in values.items() if key in TEXT_SETTINGS}
    try:
        # Buffers are real: those that no file holds must be right from the start.
        with init_empty_weights(include_buffers=False):
            return CLIPTextModel(CLIPTextConfig(**settings))
    except _BAD_VALUES as error:
        raise _no_network(path, error) from error


def _read_config(path: Path, kinds: tuple[type[Any], ...]) -> tuple[type[Any], dict[str, Any]]:
    """Read a config and find its class among the known ones; the name is never imported."""
    values = read_json(path)
    named = values.get("_class_name", values.get("architectures"))
    for kind in kinds:
        if named in (kind.__name__, [kind.__name__]):
            return kind, values
    known = " or ".join(kind.__name__ for kind in kinds)
    raise WeightsError(f"{path} is of the class {named!r}; {known} is needed")


def _known_settings(kind: type[Any], values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a class's arguments from a config, without the notes that diffusers adds."""
    known = [key for key in inspect.signature(kind.__init__).parameters if key != "self"]
    settings = {key: value for key, value in values.items() if not key.startswith("_")}
    for key in settings:
        if key not in known:
            raise WeightsError(
                f"{path}: {kind.__name__} has no setting {key!r}; {closest(key, known)}"
            )
    return settings


def _no_network(path: Path, error: Exception) -> WeightsError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return WeightsError(f"{path} has settings that cannot be: {reason}")

"""The networks that control training reads and never changes: the prior with all its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from huggingface_hub.errors import HTTPError
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from diffjscc.evaluation.lpips import LPIPS
from diffjscc.evaluation.metric_weights import MetricUnavailable
from diffjscc.models.networks import Model, Network, load_network
from diffjscc.models.pretrained import find_weights
from diffjscc.models.quantisation import SCALE
from diffjscc.models.sources import bundled_weights, find_folder, split_revision
from diffjscc.models.storage import WeightsError, as_float32, compare, has_hashes
from diffjscc.refiners.latents import ConditionEncoder
from diffjscc.refiners.prior import check_prediction
from diffjscc.refiners.text import TextFeatures
from diffjscc.refiners.vae import VAE, VAES

T = TypeVar("T")
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Prior:
    """A latent diffusion prior.

    Attributes:
        vae: pictures ↔ latents.
        unet: predicts noise.
        scheduler: the noise that it was trained with.
        text: what its cross attention reads; None for a prior without a text encoder.
    """

    vae: VAE
    unet: UNet2DConditionModel
    scheduler: DDPMScheduler
    text: TextFeatures | None


def find_prior(source: str) -> tuple[str, str | None]:
    """Folder of bundled weights by name, other folders and hub ids as they are; and a revision."""
    if source in bundled_weights():
        return str(find_folder(source)), None
    return (source, None) if Path(source).is_dir() else split_revision(source)


def _part(source: str, name: str, load: Callable[[], T]) -> T:
    """Load a part of a prior, or say which one is missing."""
    try:
        return load()
    except (HTTPError, OSError, ValueError) as error:  # HTTPError: of shards on the hub, offline
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"the {name} of prior {source!r} could not be loaded: {first}; give a folder with "
            "unet/, vae/ and scheduler/ as diffusers has them, or a hub id and a network"
        ) from error


def load_vae(source: str) -> VAE:
    """The VAE of a prior, float32 and frozen.

    Args:
        source: name of bundled weights, folder or hub id.

    Raises:
        WeightsError: it is missing, damaged or of an unknown class.
    """
    place, revision = find_prior(source)
    config = _part(
        source,
        "vae",
        lambda: AutoencoderKL.load_config(place, subfolder="vae", revision=revision),
    )
    name = config["_class_name"]
    known = {kind.__name__: kind for kind in VAES}
    if name not in known:
        raise WeightsError(
            f"the vae of prior {source!r} is of the class {name!r}; known: {', '.join(known)}"
        )
    return _network(source, "vae", known[name])


def load_prior(source: str) -> Prior:
    """All of a prior, float32 and frozen.

    Args:
        source: name of bundled weights, folder or hub id.

    Raises:
        WeightsError: a part is missing or damaged, or the prior does not predict noise.
    """
    scheduler = load_scheduler(source)  # first: it is small, and tells priors that are refused
    unet = _network(source, "unet", UNet2DConditionModel)
    return Prior(
        vae=load_vae(source),
        unet=unet,
        scheduler=scheduler,
        text=_load_text(source),
    )


def _network(source: str, folder: str, kind: type[M]) -> M:
    """A network of a prior, float32 and frozen.

    What this package wrote, it reads itself, 8-bit rows included. Folders that others wrote may
    have files and settings that only the library they are of knows.
    """
    (place, revision), name = find_prior(source), folder.replace("_", " ")
    if has_hashes(Path(place, folder)):
        network = _part(source, name, lambda: load_network(Path(place), folder, as_float32))
    else:
        # transformers warns of diffusers' name for it.
        number = {"dtype" if kind is CLIPTextModel else "torch_dtype": torch.float32}
        network, found = _part(
            source,
            name,
            lambda: kind.from_pretrained(
                place,
                subfolder=folder,
                revision=revision,
                output_loading_info=True,
                **number,
            ),
        )
        if any(key.endswith(SCALE) for key in found["unexpected_keys"]):
            raise WeightsError(
                f"the {name} of prior {source!r} is stored as int8, which is read only from a "
                "folder as `save_pretrained` wrote it; download all of it and give its path"
            )
    return cast("M", network.requires_grad_(False).eval())


def load_scheduler(source: str) -> DDPMScheduler:
    """The noise that a prior was trained with; how to sample it is the paper's.

    Args:
        source: name of bundled weights, folder or hub id.

    Raises:
        WeightsError: it is missing or damaged, or the prior does not predict noise.
    """
    place, revision = find_prior(source)
    noise = _part(
        source,
        "scheduler",
        lambda: (
            DDPMScheduler.from_pretrained(place, subfolder="scheduler", revision=revision).config
        ),
    )
    scheduler = DDPMScheduler(
        num_train_timesteps=noise.num_train_timesteps,
        beta_start=noise.beta_start,
        beta_end=noise.beta_end,
        beta_schedule=noise.beta_schedule,
        trained_betas=noise.trained_betas,
        rescale_betas_zero_snr=noise.rescale_betas_zero_snr,
        prediction_type=noise.prediction_type,
        variance_type="fixed_small",
        clip_sample=False,
        timestep_spacing="linspace",
    )
    try:
        check_prediction(scheduler)
    except ValueError as error:
        raise WeightsError(
            f"{error}: {source!r} cannot be used; Stable Diffusion 2.1-base predicts noise, 2.1 "
            "does not"
        ) from error
    return scheduler


def has_text(source: str) -> bool:
    """Whether a prior has a text encoder; of one on the hub it is taken for granted."""
    place = Path(find_prior(source)[0])
    return not place.is_dir() or (place / "text_encoder").is_dir()


def _load_text(source: str) -> TextFeatures | None:
    if not has_text(source):
        return None
    place, revision = find_prior(source)
    encoder = _network(source, "text_encoder", CLIPTextModel)
    folder = Path(place)
    tokenizer = None
    if not folder.is_dir() or (folder / "tokenizer").is_dir():
        tokenizer = _part(
            source,
            "tokenizer",
            lambda: CLIPTokenizer.from_pretrained(place, subfolder="tokenizer", revision=revision),
        )
    return TextFeatures(encoder, tokenizer)


def load_lpips(device: torch.device) -> LPIPS | None:
    """What validation also judges pictures by, where its weights can be had."""
    try:
        return LPIPS.load("squeeze").to(device)
    except MetricUnavailable:
        return None


def take_over(network: Network, source: str, name: str) -> Model:
    """Give a network the numbers of an earlier one, and return that.

    Args:
        network: the one to go on with.
        source: weights that hold the earlier one.
        name: what the network is called.

    Raises:
        WeightsError: it is missing, damaged or of another architecture.
    """
    earlier = load_network(find_weights(source), network.folder, as_float32)
    compare(network.model.state_dict(), earlier.state_dict(), f"{source}'s {name}")
    network.model.load_state_dict(earlier.state_dict())
    return earlier


def tensors_hash(module: nn.Module) -> str:
    """One hash for a network's names and numbers, whatever files they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]


def encoder_hash(encoder: VAE | ConditionEncoder) -> str:
    """One hash for what latents depend on: a VAE's decoder may be trained further."""
    parts = [part for part in (encoder.encoder, encoder.quant_conv) if part is not None]
    return tensors_hash(nn.ModuleList(parts))

"""Frozen networks of training: priors with all their parts, and hashes of what they hold."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from huggingface_hub.errors import HTTPError
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from diffjscc.choices import Prediction
from diffjscc.data.hub import hub_or_cache
from diffjscc.pretrained.hub_ids import is_hub_id
from diffjscc.pretrained.networks import Model, Network, load_network
from diffjscc.pretrained.pretrained import open_weights
from diffjscc.pretrained.quantisation import SCALE
from diffjscc.pretrained.single_file import SingleFile, is_single_file
from diffjscc.pretrained.sources import bundled_weights, find_folder, split_revision
from diffjscc.pretrained.storage import MismatchError, WeightsError, as_float32, compare, has_hashes
from diffjscc.refiners.latents import ConditionEncoder
from diffjscc.refiners.library import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffjscc.refiners.prior import check_prediction
from diffjscc.refiners.sampling import paper_scheduler
from diffjscc.refiners.text import TextFeatures, load_tokenizer
from diffjscc.refiners.vae import VAE, VAES

T = TypeVar("T")
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Prior:
    """A latent diffusion prior.

    Attributes:
        vae: images ↔ latents.
        unet: predicts noise.
        scheduler: noise schedule of its training.
        text: text features for its cross attention; None for a prior without a text encoder.
    """

    vae: VAE
    unet: UNet2DConditionModel
    scheduler: DDPMScheduler
    text: TextFeatures | None


def find_prior(source: str) -> tuple[str, str | None]:
    """Find a prior: its folder or hub id, and the revision of a hub id if one is given."""
    if source in bundled_weights():
        return str(find_folder(source)), None
    return (source, None) if Path(source).is_dir() else split_revision(source)


def _part(source: str, name: str, load: Callable[[], T]) -> T:
    """Load a part of a prior; raise WeightsError that names the part if it cannot be loaded."""
    try:
        with hub_or_cache() if is_hub_id(source) and not Path(source).exists() else nullcontext():
            return load()
    except (HTTPError, OSError, ValueError) as error:  # HTTPError: of shards on the hub, offline
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"the {name} of prior {source!r} could not be loaded: {first}; give a folder with "
            "unet/, vae/ and scheduler/ as diffusers has them, or a hub id and a network"
        ) from error


def load_vae(source: str) -> VAE:
    """Load the VAE of a prior, float32 and frozen.

    Args:
        source: name of bundled weights, folder or hub id.

    Raises:
        WeightsError: it is missing, damaged or of an unknown class.
    """
    if is_single_file(source):
        return _network(source, "vae", AutoencoderKL)
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


def load_prior(source: str, prediction: Prediction | None = None) -> Prior:
    """Load all of a prior, float32 and frozen.

    Args:
        source: name of bundled weights, folder, single file or hub id.
        prediction: what a single file predicts that does not say so itself.

    Raises:
        WeightsError: a part is missing or damaged, or the prior does not predict noise.
    """
    # First: it is small and shows whether the prior is refused.
    scheduler = load_scheduler(source, prediction)
    unet = _network(source, "unet", UNet2DConditionModel)
    return Prior(
        vae=load_vae(source),
        unet=unet,
        scheduler=scheduler,
        text=_load_text(source),
    )


def _network(source: str, folder: str, kind: type[M]) -> M:
    """Load a network of a prior, float32 and frozen.

    Files that this package wrote are read by it, 8-bit rows included. Other folders may have files
    and settings that only their own library knows.
    """
    if is_single_file(source):
        part = _part(source, folder, lambda: SingleFile.open(source).network(folder))
        return cast("M", part.requires_grad_(False).eval())
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


def load_scheduler(source: str, prediction: Prediction | None = None) -> DDPMScheduler:
    """Load the noise schedule of a prior's training; sampling settings are the paper's.

    Args:
        source: name of bundled weights, folder, single file or hub id.
        prediction: what a single file predicts that does not say so itself.

    Raises:
        WeightsError: it is missing or damaged, or the prior does not predict noise.
    """
    if is_single_file(source):
        SingleFile.open(source).check_prediction(prediction)
        return paper_scheduler()
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
            f"{error}; {source!r} cannot be used: give one such as Stable Diffusion 2.1-base, "
            "which predicts noise (2.1 does not)"
        ) from error
    return scheduler


def has_text(source: str) -> bool:
    """Return whether a prior has a text encoder; one on the hub is assumed to have one."""
    if is_single_file(source):
        return True
    place = Path(find_prior(source)[0])
    return not place.is_dir() or (place / "text_encoder").is_dir()


def _load_text(source: str) -> TextFeatures | None:
    if not has_text(source):
        return None
    encoder = _network(source, "text_encoder", CLIPTextModel)
    if is_single_file(source):  # which has no vocabulary: all CLIP models share one
        try:
            return TextFeatures(encoder, load_tokenizer())
        except ValueError as error:
            warnings.warn(f"captions cannot be read: {error}", stacklevel=2)
            return TextFeatures(encoder, None)
    place, revision = find_prior(source)
    folder = Path(place)
    tokenizer = None
    if not folder.is_dir() or (folder / "tokenizer").is_dir():
        tokenizer = _part(
            source,
            "tokenizer",
            lambda: CLIPTokenizer.from_pretrained(place, subfolder="tokenizer", revision=revision),
        )
    return TextFeatures(encoder, tokenizer)


def take_over(network: Network, source: str, name: str) -> Model:
    """Load the weights of an earlier network, and return that network.

    Args:
        network: gets the weights.
        source: weights with the earlier network.
        name: name of the network in errors.

    Raises:
        WeightsError: it is missing, damaged or of another architecture.
    """
    earlier = load_network(open_weights(source).folder, network.folder, as_float32)
    try:
        compare(network.model.state_dict(), earlier.state_dict(), f"{source}'s {name}")
    except MismatchError as error:
        raise WeightsError(_differences(network.model, earlier, source, name)) from error
    network.model.load_state_dict(earlier.state_dict())
    return earlier


def _differences(network: Model, earlier: Model, source: str, name: str) -> str:
    """Say by which settings an earlier network differs from the config's."""
    theirs, ours = (json.loads(each.to_json_string()) for each in (earlier, network))
    differing = [
        f"{key} {theirs.get(key)}, the config {ours.get(key)}"
        for key in sorted((theirs.keys() | ours.keys()) - {"snr_range_db"})
        if not key.startswith("_") and theirs.get(key) != ours.get(key)
    ]
    kinds = type(earlier).__name__, type(network).__name__
    if kinds[0] != kinds[1]:
        differing.insert(0, f"class {kinds[0]}, the config {kinds[1]}")
    return (
        f"the {name} of {source} is of another architecture: it has "
        f"{'; '.join(differing[:4]) or 'other tensors'}; make the config fit, or train without "
        "--init"
    )


def tensors_hash(module: nn.Module) -> str:
    """Hash of a network's tensors and their names, independent of files; 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]


def encoder_hash(encoder: VAE | ConditionEncoder) -> str:
    """Hash of the tensors that latents depend on: all but the VAE's decoder."""
    parts = [part for part in (encoder.encoder, encoder.quant_conv) if part is not None]
    return tensors_hash(nn.ModuleList(parts))

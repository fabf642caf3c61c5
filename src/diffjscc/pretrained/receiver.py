"""The diffusion receiver of a set of weights on disk.

    WEIGHTS/refiner.json             facts beside the networks' configs, and sampling settings
    WEIGHTS/benefit.json             where it helps, see `benefit`; only if that was measured
    WEIGHTS/unet/ vae/ control/      see `networks`
    WEIGHTS/distilled/               a second control module, if one was distilled to few steps
    WEIGHTS/text_encoder/            only for a prior that reads text
    WEIGHTS/tokenizer/               its vocabulary; without it only empty captions can be encoded
    WEIGHTS/condition_encoder/       only if it is not the VAE's own encoder
    WEIGHTS/scheduler/               diffusers' config of the noise schedule

refiner.json may hold any setting of `DiffusionConfig`; missing ones have their defaults, which are
the paper's.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from diffjscc.configuration import closest
from diffjscc.pretrained.benefit import FILE as BENEFIT
from diffjscc.pretrained.benefit import read_strength
from diffjscc.pretrained.build import build_config
from diffjscc.pretrained.networks import (
    DISTILLED,
    FOLDERS,
    Model,
    Network,
    load_network,
    load_scheduler,
    save_network,
)
from diffjscc.pretrained.storage import WeightsError, has_refiner, read_json, write_json
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.ddnm import DDNM, DDNMConfig
from diffjscc.refiners.devices import Placement, Precision
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.library import DDPMScheduler
from diffjscc.refiners.prior import check_prediction
from diffjscc.refiners.text import TextFeatures, load_tokenizer

if TYPE_CHECKING:
    from transformers import CLIPTextModel

__all__ = ["has_refiner", "load_ddnm", "load_refiner", "save_refiner"]

CLASS = "ControlledDiffusion"


@dataclasses.dataclass(frozen=True)
class RefinerFacts:
    """Facts of refiner.json beside the sampling settings; they must equal the networks' configs.

    Attributes:
        condition_encoder: the folder of the encoder of the condition latent.
        text_encoder: whether the prior is given text features.
        scaling_factor: of the VAE's latents.
        snr_scale, min_snr: see `ControlModule`.
        snr_range_db: SNR range in dB of the control module's training.
        distilled_steps: sampling steps of the distilled control module; None without one.
    """

    condition_encoder: Literal["vae", "condition_encoder"]
    text_encoder: bool
    scaling_factor: float
    snr_scale: float
    min_snr: float
    snr_range_db: tuple[float, float]
    distilled_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("scaling_factor", "snr_scale", "min_snr"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be finite")
        low, high = self.snr_range_db
        if not -math.inf < low <= high < math.inf:
            raise ValueError(f"snr_range_db is {low} to {high}; give two ascending numbers of dB")

    @property
    def folders(self) -> list[str]:
        """The networks' folders, in the order of `FOLDERS`."""
        left_out = {"condition_encoder"} if self.condition_encoder == "vae" else set()
        left_out |= set() if self.text_encoder else {"text_encoder"}
        left_out |= set() if self.distilled_steps else {DISTILLED}
        return [name for name in FOLDERS if name not in left_out]

    @classmethod
    def of(cls, refiner: ControlledDiffusion) -> RefinerFacts:
        """Collect the facts from a refiner's networks."""
        control = refiner.denoiser.control.config
        return cls(
            condition_encoder="vae" if refiner.condition_encoder is None else "condition_encoder",
            text_encoder=refiner.text is not None,
            scaling_factor=refiner.vae.config.scaling_factor,
            snr_scale=control.snr_scale,
            min_snr=control.min_snr,
            snr_range_db=refiner.snr_range_db,
            distilled_steps=refiner.denoiser.distilled_steps,
        )


def load_refiner(
    folder: str | Path,
    device: torch.device | str = "cpu",
    dtype: Precision = None,
    offload: bool = False,
) -> ControlledDiffusion:
    """Load the diffusion receiver of a folder of weights, ready for inference.

    Every tensor goes directly from its file to `device`, as `dtype`, without a second copy of the
    weights.

    Args:
        folder: weights that `has_refiner`.
        device: device of the computation.
        dtype: of the networks' weights; by default bfloat16 on CUDA and float32 elsewhere.
        offload: keep the weights on the CPU and move each network to `device` only while it is
            needed.

    Raises:
        WeightsError: missing or damaged files, unknown or impossible settings, or a control
            module of another prior.
    """
    weights = Path(folder)
    facts, config = _read_description(weights / "refiner.json")
    if config.sampler.distilled_steps not in (None, facts.distilled_steps):
        raise WeightsError(
            f"{weights / 'refiner.json'} samples in {config.sampler.distilled_steps} distilled "
            f"steps, but its distilled_steps is {facts.distilled_steps}; correct one of both"
        )
    if (weights / BENEFIT).is_file():
        config = dataclasses.replace(config, strength=read_strength(weights / BENEFIT))
    placement = Placement(torch.device(device), offload)
    scheduler, networks = _load_parts(weights, facts.folders, placement, dtype)
    try:
        refiner = ControlledDiffusion(
            networks["vae"],
            networks["unet"],
            networks["control"],
            distilled=networks.get(DISTILLED),
            scheduler=scheduler,
            text=_text(weights, networks.get("text_encoder")),
            condition_encoder=networks.get("condition_encoder"),
            config=config,
        )
        found = RefinerFacts.of(refiner)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{weights}: {error}") from error
    for field in dataclasses.fields(RefinerFacts):
        stated, actual = getattr(facts, field.name), getattr(found, field.name)
        if stated != actual:
            raise WeightsError(
                f"{weights / 'refiner.json'} says that {field.name} is {stated}, but the "
                f"networks' own configs say {actual}; they are not of the same weights"
            )
    return refiner.to(device, dtype, offload)


def load_ddnm(
    folder: str | Path,
    config: DDNMConfig | None = None,
    device: torch.device | str = "cpu",
    dtype: Precision = None,
    offload: bool = False,
) -> DDNM:
    """Load only the prior of a folder of weights, to be sampled by DDNM.

    Args:
        folder: weights that `has_refiner`; control/ and the sampling settings are not read.
        config: settings of the sampling; the published ones by default.
        device: device of the computation.
        dtype: of the networks' weights.
        offload: keep the weights on the CPU while they are not needed.

    Raises:
        WeightsError: missing or damaged files, or unknown or impossible settings.
    """
    weights = Path(folder)
    facts, _ = _read_description(weights / "refiner.json")
    names = [name for name in facts.folders if name in ("unet", "text_encoder", "vae")]
    placement = Placement(torch.device(device), offload)
    scheduler, networks = _load_parts(weights, names, placement, dtype)
    try:
        refiner = DDNM(
            networks["vae"],
            networks["unet"],
            scheduler=scheduler,
            text=_text(weights, networks.get("text_encoder")),
            config=config,
        )
    except ValueError as error:
        raise WeightsError(f"{weights}: {error}") from error
    return refiner.to(device, dtype, offload)


def save_refiner(
    refiner: ControlledDiffusion, folder: str | Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write the diffusion receiver for `load_refiner`, tensors stored as `dtype`.

    An earlier receiver in the folder is replaced; a captioner is not written.

    Args:
        refiner: the receiver.
        folder: folder of the weights.
        dtype: type of the tensors on disk, see `storage`; int8 takes one byte per number.

    Raises:
        ValueError: tensors that cannot be stored as `dtype`.
        OSError: it cannot be written.
    """
    weights = Path(folder)
    weights.mkdir(parents=True, exist_ok=True)
    facts, text = RefinerFacts.of(refiner), refiner.text
    models: dict[str, Model | None] = {
        "unet": refiner.denoiser.unet,
        "control": refiner.denoiser.control,
        DISTILLED: refiner.denoiser.distilled,
        "text_encoder": None if text is None else text.encoder,
        "vae": refiner.vae,
        "condition_encoder": refiner.condition_encoder,
    }
    for name, model in models.items():
        if model is not None:
            save_network(Network(name, model), weights, dtype)
    if text is not None and text.tokenizer is not None:
        text.tokenizer.save_pretrained(weights / "tokenizer")
    refiner.scheduler.save_config(weights / "scheduler")
    settings = dataclasses.asdict(facts) | dataclasses.asdict(refiner.config)
    write_json(weights / "refiner.json", {"class": CLASS, **settings})
    (weights / BENEFIT).unlink(missing_ok=True)  # an earlier receiver's
    stale = set(FOLDERS) - set(facts.folders)
    if text is None or text.tokenizer is None:
        stale |= {"tokenizer"}
    for name in stale:
        if (weights / name).is_dir():
            shutil.rmtree(weights / name)


def _load_parts(
    weights: Path, names: list[str], placement: Placement, dtype: Precision
) -> tuple[DDPMScheduler, dict[str, Any]]:
    """Load the noise schedule, and the networks by their folders' names, on their devices."""
    missing = [name for name in (*names, "scheduler") if not (weights / name).is_dir()]
    if missing:
        raise WeightsError(
            f"{weights} lacks {', '.join(f'{name}/' for name in missing)}, which its refiner.json "
            "needs; fetch or convert it again"
        )
    scheduler = load_scheduler(weights / "scheduler")
    try:
        check_prediction(scheduler)  # before gigabytes are read
    except ValueError as error:
        raise WeightsError(f"{weights}: {error}") from error

    def place(tensor: Tensor) -> Tensor:
        return placement.copy(tensor, dtype)

    return scheduler, {name: load_network(weights, name, place) for name in names}


def _read_description(path: Path) -> tuple[RefinerFacts, DiffusionConfig]:
    """Read a refiner.json: facts and sampling settings."""
    values = read_json(path)
    name = values.pop("class", None)
    if name != CLASS:
        raise WeightsError(f"{path} is of the class {name!r}; only {CLASS} is known")
    own, sampling = (
        [f.name for f in dataclasses.fields(kind)] for kind in (RefinerFacts, DiffusionConfig)
    )
    for key in values:
        if key not in (*own, *sampling):
            raise WeightsError(f"{path} has no setting {key!r}; {closest(key, [*own, *sampling])}")
    try:
        return (
            build_config(RefinerFacts, {k: v for k, v in values.items() if k in own}, str(path)),
            build_config(
                DiffusionConfig, {k: v for k, v in values.items() if k in sampling}, str(path)
            ),
        )
    except ValueError as error:
        raise WeightsError(str(error)) from error


def _text(weights: Path, encoder: CLIPTextModel | None) -> TextFeatures | None:
    """Make the text features, with the weights' own vocabulary if they have one."""
    if encoder is None:
        return None
    vocabulary = weights / "tokenizer"
    return TextFeatures(encoder, load_tokenizer(vocabulary) if vocabulary.is_dir() else None)

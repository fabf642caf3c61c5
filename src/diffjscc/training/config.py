"""Typed training configs: YAML files and `key=value` overrides, validated before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from diffjscc.configuration import (
    Count,
    Decibels,
    Factor,
    FilePath,
    Place,
    Positive,
    Section,
    check,
    overridden,
    read_yaml,
)
from diffjscc.paths import expanded
from diffjscc.plugins import Factory
from diffjscc.schemes.channel import ChannelConfig

RateShares = tuple[Annotated[float, Field(ge=0, le=1)], ...]
Gamma = Annotated[float, Field(gt=0, le=1e6)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Side = Annotated[int, Field(gt=0, le=8192)]
Width = Annotated[int, Field(gt=0, le=4096)]
Blocks = Annotated[int, Field(gt=0, le=256)]
MOST_PIXELS = 1 << 31  # of an iteration: 24 GiB of float32
SHIPPED = resources.files("diffjscc.training") / "configs"


class DataConfig(Section):
    """Training and validation images.

    Attributes:
        train: an image folder, WebDataset shards (folder, glob or {00..11} pattern), a pack, or
            a dataset of the user's own by import string, "my_module:make_dataset": a function that
            returns an object with `__len__` and `__getitem__`, see `data.datasets`.
        args: keyword arguments of that function.
        further: more training images, if any: a path as for `train`, or a function that is called
            without arguments. They are neither split nor packed.
        further_crops: crops of each of them in an epoch, which has one of every other image.
        crop: side of the square training crops, in pixels.
        split: manifest (`diffjscc fetch openimages` writes one) that says which images of
            `train` are for training and which for validation; without it all are for training.
        validation: other images to validate on, if any, given as for `train`; a function is
            called without arguments.
        validation_images: how many of them are used.
        packed: file for a decoded copy of the images, made once; reading crops from it costs
            no decoding, but 3 bytes a pixel of disk.
    """

    train: Place
    args: dict[str, Any] = Field(default_factory=dict)
    further: Place | None = None
    further_crops: Annotated[int, Field(ge=1, le=1000)] = 1
    crop: Side = 256
    split: FilePath | None = None
    validation: Place | None = None
    validation_images: Positive = 8
    packed: FilePath | None = None


class ExtraLossConfig(Factory):
    """A loss of the user's own.

    Attributes:
        factory: import string, "my_module:my_loss", of a function that is called as
            `loss(reconstruction, original)` with images float32 [B, 3, H, W] in about [0, 1] and
            returns a scalar; or of a class whose objects are such functions.
        weight: factor of its value in the sum that is minimised.
        args: keyword arguments of the class.
    """

    weight: Factor = 1.0


ExtraLossConfigs = tuple[ExtraLossConfig, ...]


class OptimiserConfig(Section):
    """Adam with decoupled weight decay (none gives plain Adam), and its learning rate.

    Attributes:
        muon: names of layers whose weights, matrices, get orthogonalised steps of the same size
            in place of Adam's (Jordan et al., kellerjordan.github.io/posts/muon).
        only: names of the modules that are trained; the others are frozen. All without it.
        fresh: names of modules with random weights among trained ones.
        fresh_factor: factor on their learning rate.
        learning_rate: peak learning rate.
        betas: decay of the first and second moment.
        weight_decay: on weights, not on biases and gains.
        warmup: iterations of linear growth from 0.
        schedule: "cosine" decays to 0 over all iterations; "linear-tail" stays at the peak and
            decays linearly to 0 in the last `tail` iterations, so that a run can be prolonged.
        tail: length of that decay, in iterations.
        clip: largest gradient norm; larger gradients are scaled down.
    """

    muon: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    fresh_factor: Annotated[float, Field(ge=1, le=1000)] = 10.0
    learning_rate: Annotated[float, Field(gt=0, le=1e3)] = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: Factor = 0.0
    warmup: Count = 0
    schedule: Literal["cosine", "linear-tail"] = "cosine"
    tail: Count = 0
    clip: Annotated[float, Field(gt=0, le=1e9)] | None = None


class TrainingChannelConfig(ChannelConfig):
    """Channel of training; each image's SNR in dB is sampled uniformly from `snr_db`."""

    snr_db: tuple[Decibels, Decibels] = (0.0, 14.0)

    @model_validator(mode="after")
    def _ordered(self) -> TrainingChannelConfig:
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"snr_db is {list(self.snr_db)}; give [low, high]")
        return self


class RunConfig(Section):
    """Settings of the training loop.

    Attributes:
        iterations: optimiser steps in all.
        batch: images per step, over all processes.
        ema: decay of the averaged weights, which are exported.
        seed: of initial weights, order of images, crops, SNRs and noise.
        precision: "bf16" runs the networks under autocast.
        checkpoint_every, log_every, validate_every: in iterations.
        skip_nonfinite: iterations, in all, that may be passed over because their loss or gradient
            is NaN or infinite; one more stops the training.
    """

    iterations: Positive
    batch: Annotated[int, Field(gt=0, le=1 << 20)]
    ema: Decay = 0.999
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    precision: Literal["no", "bf16"] = "no"
    checkpoint_every: Positive = 1000
    log_every: Positive = 100
    validate_every: Positive = 1000
    skip_nonfinite: Count = 0

    @field_validator("precision", mode="before")
    @classmethod
    def _no(cls, precision: object) -> object:
        return "no" if precision is False else precision  # as YAML reads a bare no


class StageConfig(Section):
    """Base of every stage's config.

    Attributes:
        stage: name of the stage; names of its shipped configs end in it.
        run: settings of the training loop.
        data: the images.
    """

    stage: ClassVar[str]
    run: RunConfig
    data: DataConfig

    @model_validator(mode="after")
    def _fits_memory(self) -> Self:
        pixels = self.run.batch * self.data.crop**2
        if pixels > MOST_PIXELS:
            raise ValueError(
                f"run.batch = {self.run.batch} crops of {self.data.crop}x{self.data.crop} are "
                f"{pixels:.2g} pixels an iteration; give at most {MOST_PIXELS:.2g}"
            )
        return self


Config = TypeVar("Config", bound=StageConfig)


def shipped_configs(kind: type[StageConfig]) -> list[str]:
    """Names of a stage's configs that come with the package."""
    names = sorted(Path(entry.name).stem for entry in SHIPPED.iterdir())
    return [name for name in names if name.endswith(f"-{kind.stage}")]


def load_config(kind: type[Config], source: str, overrides: Sequence[str] = ()) -> Config:
    """Read a shipped config by name, or a YAML file, and apply `section.key=value` overrides.

    Raises:
        ValueError: no such config, invalid YAML, an unknown key (with a suggestion) or a value
            that breaks its rule.
    """
    shipped = SHIPPED / f"{source}.yaml"
    path = Path(str(shipped)) if shipped.is_file() else Path(expanded(source))
    if not path.is_file():
        raise ValueError(
            f"config {source!r} is neither a file nor one of {', '.join(shipped_configs(kind))}"
        )
    return check(kind, overridden(read_yaml(path), overrides), f"config {source}")

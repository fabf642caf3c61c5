"""Typed training configs: YAML files and `key=value` overrides, validated before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from diffjscc.channels.choice import ChannelChoice
from diffjscc.names import SamplerName
from diffjscc.settings import Positive, Section, check, overridden, read_yaml

RateShares = tuple[Annotated[float, Field(ge=0)], ...]
SHIPPED = resources.files("diffjscc.training") / "configs"


class DataConfig(Section):
    """Where the pictures come from.

    Attributes:
        train: an image folder, WebDataset shards (folder, glob or {00..11} pattern).
        crop: side of the square training crops, in pixels.
        split: manifest (`diffjscc fetch openimages` writes one) that says which pictures of
            `train` are for training and which for validation; without it all are for training.
        validation: a folder of other pictures to validate on, if any.
        validation_pictures: how many of them are used.
        packed: file for a decoded copy of the pictures, made once; reading crops from it costs
            no decoding, but 3 bytes a pixel of disk.
    """

    train: str
    crop: Positive = 256
    split: Path | None = None
    validation: str | None = None
    validation_pictures: Positive = 8
    packed: Path | None = None


class OptimiserConfig(Section):
    """Adam with decoupled weight decay (none gives plain Adam), and how its step size moves.

    Attributes:
        muon: names of layers whose weights, matrices, get orthogonalised steps of the same size
            in place of Adam's (Jordan et al., kellerjordan.github.io/posts/muon).
        learning_rate: peak step size.
        betas: decay of the first and second moment.
        weight_decay: on weights, not on biases and gains.
        warmup: iterations of linear growth from 0.
        schedule: "cosine" decays to 0 over all iterations; "linear-tail" stays at the peak and
            decays linearly to 0 in the last `tail` iterations, so that a run can be prolonged.
        tail: length of that decay, in iterations.
        clip: largest gradient norm; larger gradients are scaled down.
    """

    muon: tuple[str, ...] = ()
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: Annotated[int, Field(ge=0)] = 0
    schedule: Literal["cosine", "linear-tail"] = "cosine"
    tail: Annotated[int, Field(ge=0)] = 0
    clip: Annotated[float, Field(gt=0)] | None = None


class ChannelConfig(ChannelChoice):
    """The channel trained over; the SNR is uniform in `snr_db`, one draw per picture."""

    snr_db: tuple[float, float] = (0.0, 14.0)

    @model_validator(mode="after")
    def _ordered(self) -> ChannelConfig:
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"snr_db is {list(self.snr_db)}; give [low, high]")
        return self


class LossConfig(Section):
    """The distortion.

    Attributes:
        name: "mse", or "log-mse", mean log(MSE + floor) over pictures: a dB counts the same at
            every rate and SNR, so the high rates get their share.
        floor: MSE below which "log-mse" turns into plain MSE.
    """

    name: Literal["mse", "log-mse"] = "mse"
    floor: Annotated[float, Field(gt=0)] = 1e-3


class RunConfig(Section):
    """What every training stage needs.

    Attributes:
        iterations: optimiser steps in all.
        batch: pictures per step, over all processes.
        ema: decay of the averaged weights, which are the ones exported.
        seed: decides initial weights, pictures, crops, SNRs and noise.
        precision: "bf16" runs the networks under autocast.
        checkpoint_every, log_every, validate_every: in iterations.
    """

    iterations: Positive
    batch: Positive
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    seed: int = 0
    precision: Literal["no", "bf16"] = "no"
    checkpoint_every: Positive = 1000
    log_every: Positive = 100
    validate_every: Positive = 1000

    @field_validator("precision", mode="before")
    @classmethod
    def _no(cls, precision: object) -> object:
        return "no" if precision is False else precision  # as YAML reads a bare no


class StageConfig(Section):
    """What every training stage's config holds.

    Attributes:
        stage: what the names of its shipped configs end in.
    """

    stage: ClassVar[str]
    run: RunConfig


class JSCCConfig(StageConfig):
    """`diffjscc train jscc`.

    Attributes:
        codec: class and architecture, see `build_codec`.
        rate_shares: probability of each of the codec's rates, ascending; equal without it.
    """

    stage: ClassVar[str] = "jscc"
    codec: dict[str, Any]
    rate_shares: RateShares | None = None
    data: DataConfig
    channel: ChannelConfig = ChannelConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()


class AdversaryConfig(Section):
    """The discriminator that a codec is trained against.

    Attributes:
        weight: α of MSE + α·adversarial, with the MSE of pictures in [0, 1].
        start: iteration from which its verdict counts; it learns from the first one on.
        width: channels of its first layer.
    """

    weight: Annotated[float, Field(ge=0)] = 1e-3
    start: Annotated[int, Field(ge=0)] = 0
    width: Positive = 48


class AdversarialConfig(JSCCConfig):
    """`diffjscc train adversarial`: as `train jscc`, with an opponent.

    Attributes:
        adversary: the opponent.
        freeze_encoder: train the decoder alone: what is sent stays what it is, so one transmitter
            serves both kinds of receiver. The paper's rival trains both ends.
    """

    stage: ClassVar[str] = "adversarial"
    adversary: AdversaryConfig = AdversaryConfig()
    freeze_encoder: bool = False


class PrecomputeConfig(Section):
    """`diffjscc precompute`: what control training reads in place of pictures.

    Attributes:
        folder: where it is kept.
        bins: how many equal parts the SNR range is cut into. Every picture is sent once in each,
            at an SNR drawn there.
        rates: rates of these transmissions, such as "1/128", in turn; all of the codec's
            without it.
        short_side: larger pictures are reduced to this short side first, in pixels. Those smaller
            than a crop are always enlarged to it.
        captions: "blip2" describes the initial pictures, "source" takes the texts that come with
            the training pictures.
        blip2: folder or hub id of BLIP-2; None takes the revision that the paper's results need.
    """

    folder: Path
    bins: Positive = 4
    rates: tuple[str, ...] | None = None
    short_side: Positive | None = None
    captions: Literal["none", "blip2", "source"] = "none"
    blip2: str | None = None


class MemoryConfig(Section):
    """How an iteration fits into memory; its result is the same to rounding.

    Attributes:
        accumulate: parts that a process computes its share of a batch in.
        gradient_checkpointing: compute activations again in the backward pass, not keep them.
    """

    accumulate: Positive = 1
    gradient_checkpointing: bool = False


class SamplingConfig(Section):
    """How validation paints, and how the weights are set to paint; see `SamplerConfig`."""

    name: SamplerName = "ddpm"
    steps: Annotated[int, Field(ge=1, le=1000)] = 100


class ControlConfig(StageConfig):
    """`diffjscc train control`, and `diffjscc precompute` before it.

    Attributes:
        prior: folder or hub id ("owner/name@revision" for one revision) with unet/, vae/,
            scheduler/ and, for priors that read text, text_encoder/ and tokenizer/, as diffusers
            has them.
        codec: weights of the codec.
        data: `crop` is in pixels of the pictures that the latents stand for.
        channel: what the initial pictures came over.
        snr_embedding: whether the control module is told the SNR; fig 6 of the paper compares.
        snr_scale, min_snr: see `ControlModule`.
        text_dropout: probability that a picture's caption is withheld.
        min_snr_gamma: see `step_weights`; None weighs all time steps alike, as the paper does.
    """

    stage: ClassVar[str] = "control"
    prior: str
    codec: str
    data: DataConfig
    channel: ChannelConfig = ChannelConfig()
    precompute: PrecomputeConfig
    snr_embedding: bool = True
    snr_scale: float = 100.0
    min_snr: float = 0.0
    text_dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    optimiser: OptimiserConfig = OptimiserConfig()
    sampler: SamplingConfig = SamplingConfig()
    memory: MemoryConfig = MemoryConfig()


class VAEArchitecture(Section):
    """Arguments of `CompactVAE`."""

    latent_channels: Positive = 16
    widths: tuple[Positive, Positive] = (112, 224)
    encoder_blocks: tuple[Positive, Positive] = (2, 4)
    decoder_blocks: tuple[Positive, Positive, Positive] = (10, 6, 4)
    fine_width: Positive = 96
    kernel: Positive = 5
    deviation: Annotated[float, Field(gt=0)] = 0.1


class VAELossConfig(Section):
    """How pictures that went through the latent are judged.

    Attributes:
        l1: weight of the mean absolute error of pictures in [-1, 1].
        lpips: weight of LPIPS with SqueezeNet.
        adversarial: weight of the patch discriminator's verdict.
        adversarial_start: iteration from which there is a discriminator.
        discriminator_width: channels of its first layer.
    """

    l1: Annotated[float, Field(ge=0)] = 1.0
    lpips: Annotated[float, Field(ge=0)] = 0.5
    adversarial: Annotated[float, Field(ge=0)] = 0.05
    adversarial_start: Annotated[int, Field(ge=0)] = 0
    discriminator_width: Positive = 48


class VAEConfig(StageConfig):
    """`diffjscc train vae`.

    Attributes:
        vae: the architecture.
        freeze_encoder: train the decoder alone: latents stay what they are, and so priors and
            control modules that were trained on them stay of use.
    """

    stage: ClassVar[str] = "vae"
    vae: VAEArchitecture = VAEArchitecture()
    freeze_encoder: bool = False
    data: DataConfig
    loss: VAELossConfig = VAELossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()


class UNetArchitecture(Section):
    """A prior's UNet.

    Attributes:
        widths: channels of each resolution, each half the one before.
        attention: whether blocks of that resolution attend.
        layers: residual blocks per resolution.
        head_width: channels per attention head.
        norm_groups: groups of every group norm.
    """

    widths: tuple[Positive, ...] = (128, 192)
    attention: tuple[bool, ...] = (False, True)
    layers: Positive = 1
    head_width: Positive = 32
    norm_groups: Positive = 16

    @model_validator(mode="after")
    def _matched(self) -> UNetArchitecture:
        if len(self.attention) != len(self.widths):
            raise ValueError(f"attention is {list(self.attention)}; give one for each width")
        return self


class PriorConfig(StageConfig):
    """`diffjscc train prior`.

    Attributes:
        vae: folder of weights with vae/, such as `train vae` writes.
        latents: folder in which the pictures' latents are kept; they are made at the first start.
        short_side: larger pictures are reduced to this short side first, in pixels. Those smaller
            than a crop are always enlarged to it.
        min_snr_gamma: see `step_weights`.
    """

    stage: ClassVar[str] = "prior"
    vae: str
    unet: UNetArchitecture = UNetArchitecture()
    data: DataConfig
    latents: Path
    short_side: Positive | None = None
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    optimiser: OptimiserConfig = OptimiserConfig()


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
    path = Path(str(shipped)) if shipped.is_file() else Path(source)
    if not path.is_file():
        raise ValueError(
            f"config {source!r} is neither a file nor one of {', '.join(shipped_configs(kind))}"
        )
    return check(kind, overridden(read_yaml(path), overrides), f"config {source}")

"""The config of `diffjscc train decoder`; what it shares with the other stages is in `config`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from diffjscc.configuration import Positive, Section
from diffjscc.training.config import (
    DataConfig,
    OptimiserConfig,
    RateShares,
    StageConfig,
    TrainingChannelConfig,
)


class SampledConfig(Section):
    """What decoder training reads in place of images; see `training.painted`.

    Attributes:
        folder: where it is kept; what it lacks is made at the first start.
        images: of how many training images a crop is painted; all where there are fewer.
        level_jitter: start levels are the receiver's own for the link, ± up to this fraction of
            the time steps, so that the decoder serves receivers that begin somewhat elsewhere.
    """

    folder: Path
    images: Positive = 3072
    level_jitter: Annotated[float, Field(ge=0, le=1)] = 0.08


class SharesConfig(Section):
    """Which latents of its images the decoder is shown: probabilities, which add up to 1.

    Attributes:
        painted: those that the prior painted.
        original: the images' own, so that what the link tells well stays sharp.
        initial: those of the initial images.
    """

    painted: Annotated[float, Field(ge=0)] = 0.75
    original: Annotated[float, Field(ge=0)] = 0.15
    initial: Annotated[float, Field(ge=0)] = 0.10

    @model_validator(mode="after")
    def _complete(self) -> SharesConfig:
        total = self.painted + self.original + self.initial
        if not math.isclose(total, 1):
            raise ValueError(f"painted, original and initial add up to {total:g}; make it 1")
        return self


class DecoderLossConfig(Section):
    """How images made of latents are judged: weights of the losses.

    Attributes:
        l1: mean absolute error of images in [-1, 1].
        lpips: LPIPS with SqueezeNet.
        features: relative squared error of mean SqueezeNet features, see `features_error`.
        frechet: Fréchet distance of the latest images' mean SqueezeNet features (`FeatureQueue`);
            it is no sum over images, so several processes train otherwise than one.
        lattice: error of what repeats with the decoder's squares, see `lattice`.
        adversarial: the discriminators' verdict, once it counts in full.
    """

    l1: Annotated[float, Field(ge=0)] = 1.0
    lpips: Annotated[float, Field(ge=0)] = 0.5
    features: Annotated[float, Field(ge=0)] = 0.5
    frechet: Annotated[float, Field(ge=0)] = 0.0
    lattice: Annotated[float, Field(ge=0)] = 8.0
    adversarial: Annotated[float, Field(ge=0)] = 0.06


class DiscriminatorsConfig(Section):
    """The discriminators of images at full and half size; they learn from the first iteration on.

    Attributes:
        start: iteration from which their verdict counts.
        ramp: iterations in which its weight then grows to the full one.
        width: channels of their first layers.
        optimiser: theirs.
    """

    start: Annotated[int, Field(ge=0)] = 100
    ramp: Annotated[int, Field(ge=0)] = 200
    width: Positive = 48
    optimiser: OptimiserConfig = OptimiserConfig()


class DecoderConfig(StageConfig):
    """`diffjscc train decoder`.

    Attributes:
        weights: name, folder or hub id of weights with a codec and a diffusion receiver.
        rate_shares: how often each of the codec's rates is sent at, ascending; equal without it.
        shown: side of the squares that the decoder is trained on, in pixels, a multiple of the
            VAE's stride; cut out of what was painted, elsewhere each time.
        shares: which latents the decoder is shown.
        recent: how many images the Fréchet distance among the losses is measured on.
        data: `crop` is the side of what is painted, in pixels.
        channel: what the initial images came over.
    """

    stage: ClassVar[str] = "decoder"
    weights: str
    rate_shares: RateShares | None = None
    shown: Annotated[int, Field(ge=32)] = 208
    shares: SharesConfig = SharesConfig()
    data: DataConfig
    channel: TrainingChannelConfig = TrainingChannelConfig()
    painted: SampledConfig
    loss: DecoderLossConfig = DecoderLossConfig()
    recent: Positive = 512
    discriminators: DiscriminatorsConfig = DiscriminatorsConfig()
    optimiser: OptimiserConfig = OptimiserConfig()

    @model_validator(mode="after")
    def _fits(self) -> DecoderConfig:
        if self.shown > self.data.crop:
            raise ValueError(f"shown is {self.shown}; data.crop is but {self.data.crop} pixels")
        return self

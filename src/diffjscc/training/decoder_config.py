"""Config of `diffjscc train decoder`."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from diffjscc.configuration import Count, Factor, Section
from diffjscc.training.config import ExtraLossConfigs, OptimiserConfig, Width
from diffjscc.training.sampled_config import SampledStageConfig


class SharesConfig(Section):
    """Probabilities of the kinds of latents that the decoder is trained on; they add up to 1.

    Attributes:
        sampled: latents that the prior sampled.
        original: the images' own latents, which keep well-received details sharp.
        initial: latents of the initial images.
    """

    sampled: Annotated[float, Field(ge=0, le=1)] = 0.75
    original: Annotated[float, Field(ge=0, le=1)] = 0.15
    initial: Annotated[float, Field(ge=0, le=1)] = 0.10

    @model_validator(mode="after")
    def _complete(self) -> SharesConfig:
        total = self.sampled + self.original + self.initial
        if not math.isclose(total, 1):
            raise ValueError(f"sampled, original and initial add up to {total:g}; make it 1")
        return self


class DecoderLossConfig(Section):
    """Weights of the losses of decoded images.

    Attributes:
        l1: mean absolute error of images in [-1, 1].
        lpips: LPIPS with SqueezeNet.
        features: relative squared error of mean SqueezeNet features, see `features_error`.
        frechet: Fréchet distance of the latest images' mean SqueezeNet features (`FeatureQueue`);
            it is no sum over images, so several processes train otherwise than one.
        lattice: error of patterns that repeat with the decoder's squares, see `lattice`.
        calm: deviation of fine scales beyond the image's, where that has little, see `excess`.
        adversarial: the discriminators' loss, after its ramp.
        extra: losses of the user's own.
    """

    l1: Factor = 1.0
    lpips: Factor = 0.5
    features: Factor = 0.5
    frechet: Factor = 0.0
    lattice: Factor = 8.0
    calm: Factor = 0.0
    adversarial: Factor = 0.06
    extra: ExtraLossConfigs = ()


class DiscriminatorsConfig(Section):
    """Discriminators; they learn from the first iteration on.

    Attributes:
        kind: "patch": of images at full and half size. "projected": of the features of a frozen
            EfficientNet-Lite1 at four scales, see `projected`; they need about a twentieth of the
            weight.
        start: iteration from which the adversarial loss counts.
        ramp: iterations in which its weight then grows to the full one.
        width: channels of the first layer of each.
        optimiser: settings of their optimiser.
    """

    kind: Literal["patch", "projected"] = "patch"
    start: Count = 100
    ramp: Count = 200
    width: Width = 48
    optimiser: OptimiserConfig = OptimiserConfig()


class DecoderConfig(SampledStageConfig):
    """Config of `diffjscc train decoder`.

    Attributes:
        window: side of the squares that the decoder is trained on, in pixels, a multiple of the
            VAE's stride; cut out of the sampled crops, elsewhere each time.
        shares: kinds of latents that the decoder is trained on.
        queue: number of latest images on which the Fréchet loss is computed.
    """

    stage: ClassVar[str] = "decoder"
    window: Annotated[int, Field(ge=32, le=8192)] = 208
    shares: SharesConfig = SharesConfig()
    loss: DecoderLossConfig = DecoderLossConfig()
    queue: Annotated[int, Field(gt=1, le=16384)] = 512
    discriminators: DiscriminatorsConfig = DiscriminatorsConfig()
    optimiser: OptimiserConfig = OptimiserConfig()

    @model_validator(mode="after")
    def _fits(self) -> DecoderConfig:
        if self.window > self.data.crop:
            raise ValueError(
                f"window is {self.window}; it must be at most data.crop, {self.data.crop} pixels"
            )
        return self

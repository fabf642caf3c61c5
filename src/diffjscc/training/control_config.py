"""Config of `diffjscc precompute` and `diffjscc train control`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffjscc.choices import Prediction, SamplerName
from diffjscc.configuration import Decibels, FilePath, Place, Section
from diffjscc.training.config import (
    DataConfig,
    Gamma,
    OptimiserConfig,
    StageConfig,
    TrainingChannelConfig,
)


class PrecomputeConfig(Section):
    """`diffjscc precompute`: latents that control training reads in place of images.

    Attributes:
        folder: the folder of latents.
        bins: number of equal parts that the SNR range is cut into. Every image is sent once in
            each, at an SNR sampled uniformly there.
        rates: rates of these transmissions, such as "1/128", in turn; all of the codec's
            without it.
        short_side: larger images are reduced to this short side first, in pixels. Those smaller
            than a crop are always enlarged to it.
        captions: "blip2" describes the initial images, "source" takes the texts that come with
            the training images.
        blip2: folder or hub id of BLIP-2; None takes the revision that the paper's results need.
    """

    folder: FilePath
    bins: Annotated[int, Field(gt=0, le=1000)] = 4
    rates: tuple[str, ...] | None = None
    short_side: Annotated[int, Field(gt=0, le=65536)] | None = None
    captions: Literal["none", "blip2", "source"] = "none"
    blip2: Place | None = None


class MemoryConfig(Section):
    """Memory of an iteration; its result is the same to rounding.

    Attributes:
        accumulate: parts that a process computes its share of a batch in.
        gradient_checkpointing: compute activations again in the backward pass, not keep them.
    """

    accumulate: Annotated[int, Field(gt=0, le=4096)] = 1
    gradient_checkpointing: bool = False


class SamplingConfig(Section):
    """Sampler of validation, and of the exported weights; see `SamplerConfig`."""

    name: SamplerName = "ddpm"
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 100


class ControlConfig(StageConfig):
    """Config of `diffjscc train control`, and of `diffjscc precompute` before it.

    Attributes:
        prior: folder or hub id ("owner/name@revision" for one revision) with unet/, vae/,
            scheduler/ and, for priors that read text, text_encoder/ and tokenizer/, as diffusers
            has them; or one file of Stable Diffusion 2.1-base (.safetensors or .ckpt).
        prior_prediction: what one file predicts that does not say so itself; priors that predict v
            cannot be used.
        codec: weights of the codec.
        data: `crop` is in pixels of the images that the latents stand for.
        channel: channel over which the initial images were received.
        snr_embedding: whether the control module is conditioned on the SNR; fig 6 of the paper
            compares.
        snr_scale, min_snr: see `ControlModule`.
        text_dropout: probability that an image's caption is withheld.
        min_snr_gamma: see `step_weights`; None weighs all time steps alike, as the paper does.
    """

    stage: ClassVar[str] = "control"
    prior: Place
    prior_prediction: Prediction | None = None
    codec: Place
    data: DataConfig
    channel: TrainingChannelConfig = TrainingChannelConfig()
    precompute: PrecomputeConfig
    snr_embedding: bool = True
    snr_scale: Annotated[float, Field(gt=0, le=1e6)] = 100.0
    min_snr: Decibels = 0.0
    text_dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    min_snr_gamma: Gamma | None = None
    optimiser: OptimiserConfig = OptimiserConfig()
    sampler: SamplingConfig = SamplingConfig()
    memory: MemoryConfig = MemoryConfig()

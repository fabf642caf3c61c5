"""Config that stages which train on sampled latents share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from diffjscc.configuration import FilePath, Place, Positive, Section
from diffjscc.training.augmentation_config import Augmentation
from diffjscc.training.config import DataConfig, RateShares, StageConfig, TrainingChannelConfig


class SampledConfig(Section):
    """Sampled latents that are read in place of images; see `training.sampled`.

    Attributes:
        folder: folder of the latents; those that it lacks are sampled when training starts.
        images: number of training images of which a crop is sampled; all where there are fewer.
        level_jitter: start levels are the receiver's own for the link, ± up to this fraction of
            the time steps, so that what is trained serves receivers that begin somewhat elsewhere.
    """

    folder: FilePath
    images: Positive = 3072
    level_jitter: Annotated[float, Field(ge=0, le=1)] = 0.08


class SampledStageConfig(StageConfig):
    """Base of the configs of stages that train on sampled latents.

    Attributes:
        weights: name, folder or hub id of weights with a codec and a diffusion receiver.
        rate_shares: probability of each of the codec's rates, ascending; equal without it.
        data: `crop` is the side of the sampled crops, in pixels.
        augmentation: changes to the crops; none by default.
        channel: channel over which the initial images were received.
        sampled: the latents.
    """

    weights: Place
    rate_shares: RateShares | None = None
    data: DataConfig
    augmentation: Augmentation = Augmentation()
    channel: TrainingChannelConfig = TrainingChannelConfig()
    sampled: SampledConfig

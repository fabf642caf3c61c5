"""Configs of `diffjscc train jscc` and `diffjscc train adversarial`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from diffjscc.configuration import Count, Factor, Place, Section
from diffjscc.training.augmentation_config import Augmentation
from diffjscc.training.config import (
    DataConfig,
    ExtraLossConfigs,
    OptimiserConfig,
    RateShares,
    StageConfig,
    TrainingChannelConfig,
    Width,
)


class LossConfig(Section):
    """Distortion, losses of calm areas and the texture map, and losses of the user's own.

    Attributes:
        name: "mse", or "log-mse", mean log(MSE + floor) over images: a dB counts the same at
            every rate and SNR, so the high rates get their share.
        floor: MSE below which "log-mse" turns into plain MSE.
        texture: weight of the Huber error of the received texture map, see `layers.texture`; has
            an effect only on codecs that convey one.
        flat_colour: weight of the colour error where the original is flat, see `flat_colour`.
        extra: losses added to it.
    """

    name: Literal["mse", "log-mse"] = "mse"
    floor: Annotated[float, Field(gt=0, le=1)] = 1e-3
    texture: Factor = 0.0
    flat_colour: Factor = 0.0
    extra: ExtraLossConfigs = ()


class JSCCConfig(StageConfig):
    """Config of `diffjscc train jscc`.

    Attributes:
        codec: class and architecture, see `build_codec`; or a codec of the user's own,
            {kind: custom, factory: "my_module:make_codec", args: {…}}, see `build_training_codec`.
        rate_shares: probability of each of the codec's rates, ascending; equal without it.
        augmentation: changes to the training crops; none by default.
    """

    stage: ClassVar[str] = "jscc"
    codec: dict[str, Any]
    rate_shares: RateShares | None = None
    data: DataConfig
    augmentation: Augmentation = Augmentation()
    channel: TrainingChannelConfig = TrainingChannelConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()


class AdversaryConfig(Section):
    """The discriminator that a codec is trained against.

    Attributes:
        weight: α of MSE + α·adversarial, with the MSE of images in [0, 1].
        start: iteration from which the adversarial loss counts; the discriminator learns from the
            first one on.
        width: channels of its first layer.
    """

    weight: Factor = 1e-3
    start: Count = 0
    width: Width = 48


class AdversarialConfig(JSCCConfig):
    """Config of `diffjscc train adversarial`: as `train jscc`, with a discriminator.

    Attributes:
        adversary: the discriminator.
        freeze_encoder: train the decoder alone: symbols do not change, so one transmitter serves
            both kinds of receiver. The paper's DeepJSCC-adv trains both ends.
    """

    stage: ClassVar[str] = "adversarial"
    adversary: AdversaryConfig = AdversaryConfig()
    freeze_encoder: bool = False


class FeedbackTrainingConfig(JSCCConfig):
    """Config of `diffjscc train feedback`: as `train jscc`, of the rounds after the first.

    Attributes:
        codec: architecture of those rounds, see `FeedbackConfig`.
        first: weights whose codec sends the first round, at half of each rate; it is frozen.
        uncertainty: weight of the negative log likelihood of the receiver's errors under the
            variances that it predicts.
        everything: share of the batches in which all blocks are sent alike.
    """

    stage: ClassVar[str] = "feedback"
    codec: dict[str, Any] = Field(default_factory=dict)
    first: Place = "compact"
    uncertainty: Factor = 0.5
    everything: Annotated[float, Field(ge=0, le=1)] = 0.25

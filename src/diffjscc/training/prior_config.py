"""Configs of `diffjscc train vae` and `diffjscc train prior`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from diffjscc.configuration import FilePath, Place, Positive, Section
from diffjscc.training.config import DataConfig, ExtraLossConfigs, OptimiserConfig, StageConfig


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
    """Losses of decoded images.

    Attributes:
        l1: weight of the mean absolute error of images in [-1, 1].
        lpips: weight of LPIPS with SqueezeNet.
        adversarial: weight of the patch discriminator's loss.
        adversarial_start: iteration from which there is a discriminator.
        discriminator_width: channels of its first layer.
        extra: losses of the user's own.
    """

    l1: Annotated[float, Field(ge=0)] = 1.0
    lpips: Annotated[float, Field(ge=0)] = 0.5
    adversarial: Annotated[float, Field(ge=0)] = 0.05
    adversarial_start: Annotated[int, Field(ge=0)] = 0
    discriminator_width: Positive = 48
    extra: ExtraLossConfigs = ()


class VAEConfig(StageConfig):
    """Config of `diffjscc train vae`.

    Attributes:
        vae: the architecture.
        freeze_encoder: train the decoder alone: latents do not change, so priors and control
            modules that were trained on them stay valid.
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
    """Config of `diffjscc train prior`.

    Attributes:
        vae: folder of weights with vae/, such as `train vae` writes.
        latents: folder of the images' latents; computed when training first starts.
        short_side: larger images are reduced to this short side first, in pixels. Those smaller
            than a crop are always enlarged to it.
        min_snr_gamma: see `step_weights`.
    """

    stage: ClassVar[str] = "prior"
    vae: Place
    unet: UNetArchitecture = UNetArchitecture()
    data: DataConfig
    latents: FilePath
    short_side: Positive | None = None
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    optimiser: OptimiserConfig = OptimiserConfig()

"""Configs of `diffjscc train vae` and `diffjscc train prior`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator, model_validator

from diffjscc.configuration import Count, Factor, FilePath, Place, Section
from diffjscc.training.config import (
    Blocks,
    DataConfig,
    ExtraLossConfigs,
    Gamma,
    OptimiserConfig,
    StageConfig,
    Width,
)


class VAEArchitecture(Section):
    """Arguments of `CompactVAE`."""

    latent_channels: Annotated[int, Field(gt=0, le=768)] = 16
    widths: tuple[Width, Width] = (112, 224)
    encoder_blocks: tuple[Blocks, Blocks] = (2, 4)
    decoder_blocks: tuple[Blocks, Blocks, Blocks] = (10, 6, 4)
    fine_width: Width = 96
    kernel: Annotated[int, Field(gt=0, le=31)] = 5
    deviation: Annotated[float, Field(gt=0, le=1e3)] = 0.1

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"give an odd number, such as {kernel + 1}")
        return kernel


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

    l1: Factor = 1.0
    lpips: Factor = 0.5
    adversarial: Factor = 0.05
    adversarial_start: Count = 0
    discriminator_width: Width = 48
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

    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (128, 192)
    attention: tuple[bool, ...] = (False, True)
    layers: Blocks = 1
    head_width: Width = 32
    norm_groups: Width = 16

    @model_validator(mode="after")
    def _matched(self) -> UNetArchitecture:
        if len(self.attention) != len(self.widths):
            raise ValueError(f"attention is {list(self.attention)}; give one for each width")
        for width in self.widths:
            if width % self.norm_groups:
                raise ValueError(f"width {width} is no multiple of norm_groups, {self.norm_groups}")
            if width % max(1, width // self.head_width):
                raise ValueError(f"width {width} is no multiple of head_width, {self.head_width}")
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
    short_side: Annotated[int, Field(gt=0, le=65536)] | None = None
    min_snr_gamma: Gamma | None = None
    optimiser: OptimiserConfig = OptimiserConfig()

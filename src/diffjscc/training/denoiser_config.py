"""Config of `diffjscc train denoiser`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from diffjscc.configuration import Section
from diffjscc.training.config import Blocks, OptimiserConfig, StageConfig, Width

Deviation = Annotated[float, Field(ge=0, le=10)]


class DenoiserArchitecture(Section):
    """Arguments of `BiasFreeDenoiser`."""

    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=6)] = (24, 48, 64)
    blocks: Blocks = 1


class NoiseConfig(Section):
    """Noise that is to be removed.

    Attributes:
        deviation: (low, high) of the noise's standard deviation, uniform, one value per image;
            images are in [0, 1].
        coarseness: sides in pixels of the squares in which the noise is alike, one of them per
            image, see `coarse_noise`. 1 is white noise.
    """

    deviation: tuple[Deviation, Deviation] = (0.0, 0.3)
    coarseness: Annotated[
        tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=16)
    ] = (1, 2, 4, 8)

    @model_validator(mode="after")
    def _ordered(self) -> NoiseConfig:
        if self.deviation[0] > self.deviation[1]:
            raise ValueError(f"deviation is {list(self.deviation)}; give [low, high]")
        return self


class DenoiserConfig(StageConfig):
    """Config of `diffjscc train denoiser`.

    Attributes:
        denoiser: architecture.
        noise: that is to be removed.
    """

    stage: ClassVar[str] = "denoiser"
    denoiser: DenoiserArchitecture = DenoiserArchitecture()
    noise: NoiseConfig = NoiseConfig()
    optimiser: OptimiserConfig = OptimiserConfig()

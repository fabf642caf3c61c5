"""Settings of augmentation; see `diffjscc.training.augmentation` for what it does."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from diffjscc.configuration import Section

Probability = Annotated[float, Field(ge=0, le=1)]
Radius = Annotated[float, Field(gt=0, le=100)]


class Augmentation(Section):
    """Probabilities and sizes of changes to crops; by default there are none.

    Attributes:
        scale: crops have sides between 1/scale and scale times the requested size, log-uniform,
            and are resized to it; 1 disables it.
        defocus: probability of a blur by a disc or a Gaussian, of the whole crop or of a part with
            a soft edge.
        radius: radius of the blur in pixels, log-uniform in (low, high); a Gaussian has half of
            it as its standard deviation.
        gradient: probability of a smooth gradient between four colours in place of the crop.
        low_light: probability of a darker crop with sensor noise.
        grey: probability of a crop without colours.
    """

    scale: Annotated[float, Field(ge=1, le=4)] = 1.0
    defocus: Probability = 0.0
    radius: tuple[Radius, Radius] = (1.5, 10.0)
    gradient: Probability = 0.0
    low_light: Probability = 0.0
    grey: Probability = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Augmentation:
        if self.radius[0] > self.radius[1]:
            raise ValueError(f"radius is {list(self.radius)}; give [low, high]")
        return self

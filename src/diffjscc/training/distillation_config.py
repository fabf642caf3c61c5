"""Config of `diffjscc train distillation`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from diffjscc.training.config import OptimiserConfig
from diffjscc.training.sampled_config import SampledStageConfig


class DistillationConfig(SampledStageConfig):
    """Config of `diffjscc train distillation`.

    Attributes:
        steps: DDIM steps, each without guidance, in which the distilled receiver samples.
        optimiser: settings of the optimiser.
    """

    stage: ClassVar[str] = "distillation"
    steps: Annotated[int, Field(ge=1, le=16)] = 1
    optimiser: OptimiserConfig = OptimiserConfig()

"""Options of generator-prior receivers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from diffjscc.configuration import Factor, Section


class GeneratorOptions(Section):
    """Settings of kind "generator", see `GeneratorConfig`."""

    iterations: Annotated[int, Field(ge=0, le=100_000)] = 100
    learning_rate: Annotated[float, Field(gt=0, le=1e3)] = 0.05
    mse: Factor = 1.0
    lpips: Factor = 0.1
    likelihood: Factor = 0.0
    prior: Factor = 0.0
    range_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    factor: Annotated[int, Field(ge=2, le=1024)] = 8

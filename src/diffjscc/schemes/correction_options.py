"""Options of iterative source error correction."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from diffjscc.configuration import Place, Section


class CorrectionOptions(Section):
    """Settings of the receiver "isec", see `CorrectionConfig`.

    Attributes:
        denoiser: weights that `diffjscc train denoiser` made, the source prior; None takes the
            diffusion prior of the scheme's weights.
        iterations: steps.
        prior_power: τ², variance of sent symbols around the re-encoded ones that is assumed.
        strength: share of the prior's correction that is taken.
        level: noise level at which a diffusion prior is used, a fraction of its time steps.
    """

    denoiser: Place | None = None
    iterations: Annotated[int, Field(ge=0, le=1000)] = 1
    prior_power: Annotated[float, Field(gt=0, le=1e6)] = 8.0
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0
    level: Annotated[float, Field(gt=0, lt=1)] = 0.1

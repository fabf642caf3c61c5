"""Settings of schemes that choose a rate for each image."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from diffjscc.choices import QualityEstimate
from diffjscc.configuration import Place, Section


class RatePolicyOptions(Section):
    """Settings of a rate policy, see `codecs.rate_policy`.

    Attributes:
        estimate: of the quality at each rate: "predict" from content and SNR, by the regression of
            the table; "simulate" by sending the image to a decoder at the transmitter.
        target_psnr: in dB; the lowest rate that reaches it is taken, up to the nominal one. None:
            the nominal rate is the mean over photographs.
        table: file that `diffjscc calibrate rates` wrote; that of the weights' folder without one.
    """

    estimate: QualityEstimate = "predict"
    target_psnr: Annotated[float, Field(ge=0, le=100)] | None = None
    table: Place | None = None

    @property
    def label(self) -> str:
        """The settings that decide what is sent."""
        rule = "" if self.target_psnr is None else f" for {self.target_psnr:g} dB"
        return f"rate per image{rule}" + (", simulated" if self.estimate == "simulate" else "")

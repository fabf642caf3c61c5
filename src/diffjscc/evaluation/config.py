"""The settings of a sweep: schemes x channels x rates x SNRs x images x repeats."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator, model_validator

from diffjscc.choices import FeatureName, LPIPSNet
from diffjscc.configuration import Positive, Section
from diffjscc.rate import parse_rate
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig

if TYPE_CHECKING:
    pass


class SweepConfig(Section):
    """What `diffjscc evaluate` runs.

    Attributes:
        images: files, folders or glob patterns.
        schemes: to be compared; each sends every image over every channel at every point.
        channels: to send over.
        rates: nominal, in channel uses per pixel.
        snrs_db: mean Es/N0.
        repeats: transmissions per image and point, each with other noise.
        seed: decides noise and fades: the same for all schemes.
        crop: side of the square in the middle that is taken of each image, in pixels; None
            takes it whole.
        megapixels: that are received at once, an image at least. More fills a GPU; in other
            batches figures may differ by rounding, so this is a part of the set-up.
        lpips: its network; None leaves it out.
        niqe: whether it is measured.
        features: networks on whose features distances between sets of patches are measured.
        shown: how many images are kept for people to look at, of the first repeat.
        samples: that a receiver paints of each kept image, for its map of uncertainty; 0: none.
        device: "auto", "cpu", "cuda", …
    """

    images: tuple[str, ...] = Field(min_length=1)
    schemes: tuple[SchemeConfig, ...] = Field(min_length=1)
    channels: tuple[ChannelConfig, ...] = Field(default=(ChannelConfig(),), min_length=1)
    rates: tuple[str, ...] = Field(default=("1/128",), min_length=1)
    snrs_db: tuple[Annotated[float, Field(ge=-200, le=200)], ...] = Field(
        default=(1.0,), min_length=1
    )
    repeats: Positive = 1
    seed: Annotated[int, Field(ge=0)] = 0
    crop: Positive | None = None
    megapixels: Annotated[float, Field(gt=0)] = 2.0
    lpips: LPIPSNet | None = "squeeze"
    niqe: bool = True
    features: tuple[FeatureName, ...] = ("squeezenet",)
    shown: Annotated[int, Field(ge=0)] = 3
    samples: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"

    @field_validator("rates")
    @classmethod
    def _rates(cls, rates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(parse_rate(rate)) for rate in rates)

    @model_validator(mode="after")
    def _distinct(self) -> SweepConfig:
        for name, values in (
            ("schemes", [scheme.name for scheme in self.schemes]),
            ("channels", [channel.label for channel in self.channels]),
            ("rates", self.rates),
            ("snrs_db", self.snrs_db),
            ("features", self.features),
        ):
            twice = [str(value) for value, times in Counter(values).items() if times > 1]
            if twice:
                way = "; give each a label of its own" if name == "schemes" else ""
                raise ValueError(f"{name} holds {', '.join(twice)} more than once{way}")
        if self.samples == 1:
            raise ValueError("samples is 1; at least 2 are needed to see where they disagree")
        return self

"""The settings of a sweep: schemes x channels x rates x SNRs x images x repeats."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from diffjscc.choices import DEFAULT_METRICS, FeatureName, MetricName
from diffjscc.configuration import Decibels, Place, Section, Seed, Several, closest
from diffjscc.plugins import is_import_string
from diffjscc.rate import parse_rate
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig

MOST_TRANSMISSIONS = 1_000_000  # of an image


def _rate(rate: str) -> str:
    return str(parse_rate(rate))


class SweepConfig(Section):
    """Settings of `diffjscc evaluate`.

    Attributes:
        images: files, folders or glob patterns.
        schemes: to be compared; each sends every image over every channel at every point.
        channels: to transmit over.
        rates: nominal, in channel uses per pixel.
        snrs_db: mean Es/N0.
        repeats: transmissions per image and point, each with other noise.
        seed: decides noise and fades: the same for all schemes.
        max_side: larger images are reduced to this longest side first, in pixels; None takes
            them as they are.
        crop: side of the square in the middle that is taken of each image, in pixels; None
            takes it whole.
        megapixels: that are received at once, an image at least. More fills a GPU; in other
            batches metrics may differ by rounding, so this is a part of the set-up.
        metrics: of each image: names in `metrics.catalogue.METRICS`, or import strings of the
            user's own, "my_module:my_metric", see `metrics.catalogue.custom_metric`.
        features: networks on whose features distances between sets of patches are measured.
        shown: number of images of which the first repeat is kept, to look at.
        samples: of each kept image that a receiver generates for its map of uncertainty; 0: none.
        device: "auto", "cpu", "cuda", …
    """

    images: Several[Place] = Field(min_length=1)
    schemes: Several[SchemeConfig] = Field(min_length=1)
    channels: Several[ChannelConfig] = Field(default=(ChannelConfig(),), min_length=1)
    rates: Several[Annotated[str, AfterValidator(_rate)]] = Field(default=("1/128",), min_length=1)
    snrs_db: Several[Decibels] = Field(default=(1.0,), min_length=1)
    repeats: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: Seed = 0
    max_side: Annotated[int, Field(ge=1, le=65_536)] | None = None
    crop: Annotated[int, Field(ge=1, le=65_536)] | None = None
    megapixels: Annotated[float, Field(gt=0, le=10_000)] = 2.0
    metrics: Several[str] = DEFAULT_METRICS
    features: Several[FeatureName] = ("squeezenet",)
    shown: Annotated[int, Field(ge=0, le=1_000_000)] = 3
    samples: Annotated[int, Field(ge=0, le=256)] = 0
    device: str = "auto"

    @field_validator("metrics")
    @classmethod
    def _metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for name in metrics:
            known = get_args(MetricName)
            if name not in known and not is_import_string(name):
                way = "or give your own as my_module:my_metric"
                raise ValueError(f"metric {name!r} is not known; {closest(name, known)} {way}")
        return metrics

    @model_validator(mode="after")
    def _distinct(self) -> SweepConfig:
        for name, values in (
            ("schemes", [scheme.name for scheme in self.schemes]),
            ("channels", [channel.label for channel in self.channels]),
            ("rates", self.rates),
            ("snrs_db", self.snrs_db),
            ("metrics", self.metrics),
            ("features", self.features),
        ):
            twice = [str(value) for value, times in Counter(values).items() if times > 1]
            if twice:
                way = "; give each a label of its own" if name == "schemes" else ""
                raise ValueError(f"{name} holds {', '.join(twice)} more than once{way}")
        points = len(self.schemes) * len(self.channels) * len(self.rates) * len(self.snrs_db)
        if points * self.repeats > MOST_TRANSMISSIONS:
            raise ValueError(
                f"{points:,} operating points and {self.repeats:,} repeats are more than "
                f"{MOST_TRANSMISSIONS:,} transmissions of each image; lower repeats, or split it"
            )
        if self.samples == 1:
            raise ValueError("samples is 1; give at least 2, which can disagree, or 0")
        return self

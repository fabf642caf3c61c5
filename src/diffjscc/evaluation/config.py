"""The settings of a sweep: schemes x channels x rates x SNRs x images x repeats."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from diffjscc.choices import FeatureName
from diffjscc.configuration import Place, Positive, Section, closest
from diffjscc.metrics.catalogue import DEFAULT_METRICS, METRICS
from diffjscc.plugins import is_import_string
from diffjscc.rate import parse_rate
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig


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

    images: tuple[Place, ...] = Field(min_length=1)
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
    metrics: tuple[str, ...] = DEFAULT_METRICS
    features: tuple[FeatureName, ...] = ("squeezenet",)
    shown: Annotated[int, Field(ge=0)] = 3
    samples: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"

    @field_validator("rates")
    @classmethod
    def _rates(cls, rates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(parse_rate(rate)) for rate in rates)

    @field_validator("metrics")
    @classmethod
    def _metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for name in metrics:
            if name not in METRICS and not is_import_string(name):
                way = "or give your own as my_module:my_metric"
                raise ValueError(f"metric {name!r} is not known; {closest(name, [*METRICS])} {way}")
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
        if self.samples == 1:
            raise ValueError("samples is 1; give at least 2, which can disagree, or 0")
        return self

"""Means over transmissions with confidence intervals, per operating point of a sweep.

Other noise on the same image is no new image: metrics differ far more from image to image than from
transmission to transmission of one, so that treating each transmission as a sample of its own would
make intervals too narrow, the more so the more often each image is sent. Images are therefore the
samples (clusters): repeats are averaged within an image, which leaves the channel's randomness in
the image's mean, and the interval is Student's t over the images' means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from diffjscc.evaluation.records import AtPoint, OperatingPoint, PointDistances, Record
from diffjscc.evaluation.results import Results
from diffjscc.metrics.catalogue import OUTAGE, SECONDS, MetricInfo, frechet_info, kernel_info

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Quantity:
    """A number of each transmission that is averaged.

    Attributes:
        info: the metric, or `SECONDS` or `OUTAGE`.
        initial: of the initial image rather than of the final one.
    """

    info: MetricInfo
    initial: bool = False

    @property
    def key(self) -> str:
        """Its name in `Summary.estimates`, such as "psnr" or "psnr_initial"."""
        return f"{self.info.name}_initial" if self.initial else self.info.name

    @property
    def label(self) -> str:
        """Label and unit for readers."""
        return f"{self.info.heading}, initial image" if self.initial else self.info.heading

    def of(self, record: Record) -> float | None:
        """Its value in a record; None where there is none."""
        if self.info == SECONDS:
            return record.seconds
        if self.info == OUTAGE:
            return record.outage
        metrics = record.initial_metrics if self.initial else record.metrics
        return None if metrics is None else metrics.get(self.info.name)


def metrics_of(results: Iterable[Results]) -> tuple[MetricInfo, ...]:
    """The metrics of several folders, in the order in which they first appear."""
    infos: dict[str, MetricInfo] = {}
    for result in results:
        for info in result.setup.metrics:
            infos.setdefault(info.name, info)
    return tuple(infos.values())


def quantities(metrics: Iterable[MetricInfo]) -> dict[str, Quantity]:
    """All that is averaged over transmissions, by key: metrics, seconds, initial ones, outages."""
    infos = tuple(metrics)
    found = [
        *(Quantity(info) for info in infos),
        Quantity(SECONDS),
        *(Quantity(info, initial=True) for info in infos),
        Quantity(OUTAGE),
    ]
    return {quantity.key: quantity for quantity in found}


@dataclass(frozen=True)
class Estimate:
    """A mean over images and repeats.

    Attributes:
        mean: of the images' means; each image weighs the same, however often it was sent.
        half_width: of the 95 % confidence interval; None with one image.
        images: how many.
        transmissions: how many, of all images.
    """

    mean: float
    half_width: float | None
    images: int
    transmissions: int

    @property
    def low(self) -> float:
        """Lower end of the interval; the mean where there is none."""
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """Upper end of the interval; the mean where there is none."""
        return self.mean + (self.half_width or 0.0)


def estimate(values: Iterable[tuple[str, float]]) -> Estimate:
    """Compute mean and 95 % confidence interval from a value per transmission.

    x̄ ± t(0.975, n - 1) · s/√n with x̄ and s of the n images' means (Student's t over clusters).

    Args:
        values: (image, value) pairs, several to an image where it was sent several times.

    Raises:
        ValueError: there is no pair.
    """
    by_image: dict[str, list[float]] = {}
    for image, value in values:
        by_image.setdefault(image, []).append(value)
    if not by_image:
        raise ValueError("cannot average an empty sequence; give at least one (image, value)")
    means = [statistics.fmean(repeats) for repeats in by_image.values()]
    images, half_width = len(means), None
    if images > 1:
        from scipy.special import stdtrit  # noqa: PLC0415 - slow, and one image needs none

        quantile = float(stdtrit(images - 1, (1 + CONFIDENCE) / 2))
        half_width = quantile * statistics.stdev(means) / math.sqrt(images)
    return Estimate(
        mean=statistics.fmean(means),
        half_width=half_width,
        images=images,
        transmissions=sum(map(len, by_image.values())),
    )


@dataclass(frozen=True)
class Summary(AtPoint):
    """Means at one operating point.

    Attributes:
        rate, snr_db: the true ones, means over its transmissions.
        sampler, num_inference_steps: of its refiner; None without one.
        estimates: by `Quantity.key`, where any record has a value. Outages count in all.
        distances: by the features that they are taken on.
        absent: images that the scheme cannot send. Means are over the others alone, which are
            those that are easy to code; without any there are no means.
        metrics: names and presentation of the metrics of all points.
    """

    rate: float
    snr_db: float
    sampler: str | None
    num_inference_steps: int | None
    estimates: dict[str, Estimate]
    distances: dict[str, PointDistances]
    absent: int = 0
    metrics: tuple[MetricInfo, ...] = field(default=(), repr=False)


def summarise(results: Sequence[Results]) -> list[Summary]:
    """Average every operating point of some folders, in the order in which points first appear.

    Where several folders have a point their transmissions are pooled, one that is in both counts
    once, and of two distances the one on more patches is taken.

    Raises:
        ValueError: a point has other weights or another sampler in one folder than in another.
    """
    records: dict[OperatingPoint, dict[object, Record]] = {}
    distances: dict[OperatingPoint, dict[str, PointDistances]] = {}
    absent: dict[OperatingPoint, set[str]] = {}
    for result in results:
        for record in result.records:
            records.setdefault(record.point, {}).setdefault(record.transmission, record)
        for missing in result.absent:
            records.setdefault(missing.point, {})
            absent.setdefault(missing.point, set()).add(missing.image)
        for measured in result.distances:
            known = distances.setdefault(measured.point, {})
            before = known.get(measured.features)
            if before is None or before.patches < measured.patches:
                known[measured.features] = measured
    for name in ("weights", "sampler", "num_inference_steps"):
        _check_agreement(results, name)
    metrics = metrics_of(results)
    return [
        _summary(
            point,
            list(sent.values()),
            distances.get(point, {}),
            len(absent.get(point, ())),
            metrics,
        )
        for point, sent in records.items()
    ]


def bias_note(summaries: Sequence[Summary]) -> str:
    """Return a sentence on Fréchet distances of too few patches; empty where there are none."""
    biased = dict.fromkeys(
        name for one in summaries for name, found in one.distances.items() if found.biased
    )
    if not biased:
        return ""
    labels = " and ".join(frechet_info(name).label for name in biased)
    better = " or ".join(kernel_info(name).label for name in biased)
    return (
        f"{labels}: biased upwards, as there are no more patches than features; compare equal "
        f"numbers of patches only, or the {better}"
    )


def _check_agreement(results: Sequence[Results], name: str) -> None:
    """Raise ValueError where records of one point differ in what decides them."""
    first: dict[OperatingPoint, tuple[object, Results]] = {}
    for result in results:
        for record in result.records:
            found = getattr(record, name)
            value, known = first.setdefault(record.point, (found, result))
            if found != value:
                raise ValueError(
                    f"{record.point} has {name} {value} in {known.folder} and {found} in "
                    f"{result.folder}; a mean over both is no mean of one scheme: summarise the "
                    "folders apart, or rename the scheme in one"
                )


def _summary(
    point: OperatingPoint,
    records: Sequence[Record],
    distances: dict[str, PointDistances],
    absent: int,
    metrics: tuple[MetricInfo, ...],
) -> Summary:
    estimates = {}
    for key, quantity in quantities(metrics).items():
        values = [(f"{one.image} {one.image_hash}", quantity.of(one)) for one in records]
        present = [(image, value) for image, value in values if value is not None]
        if present:
            estimates[key] = estimate(present)
    nominal = float(Fraction(point.nominal_rate))
    return Summary(
        *point,
        rate=statistics.fmean(one.rate for one in records) if records else nominal,
        snr_db=statistics.fmean(one.snr_db for one in records) if records else point.nominal_snr_db,
        sampler=records[0].sampler if records else None,
        num_inference_steps=records[0].num_inference_steps if records else None,
        estimates=estimates,
        distances=distances,
        absent=absent,
        metrics=metrics,
    )

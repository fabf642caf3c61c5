"""Means over transmissions with confidence intervals, per cell of a sweep.

Draws of the channel for one image are no new images: figures differ far more from image to
image than from draw to draw, so that treating each transmission as a sample of its own would
make intervals too narrow, the more so the more often each image is sent. Images are therefore
the samples (clusters): draws are averaged within an image, which leaves the channel's randomness
in the image's mean, and the interval is Student's t over the images' means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from scipy.special import stdtrit

from diffjscc.evaluation.records import OperatingPoint, Record
from diffjscc.evaluation.results import PointDistances, Results

CONFIDENCE = 0.95


@dataclass(frozen=True)
class MetricInfo:
    """What a figure of merit is called and which of two values is the better one.

    Attributes:
        label: with its unit, if it has one.
        higher: higher is better; otherwise lower is.
        digits: after the decimal point, when it is shown.
    """

    label: str
    higher: bool
    digits: int


MERITS = {
    "psnr": MetricInfo("PSNR / dB", higher=True, digits=2),
    "ms_ssim": MetricInfo("MS-SSIM", higher=True, digits=4),
    "lpips": MetricInfo("LPIPS", higher=False, digits=4),
    "niqe": MetricInfo("NIQE", higher=False, digits=2),
    "seconds": MetricInfo("time / s", higher=False, digits=2),
}
OUTAGE = MetricInfo("outage rate", higher=False, digits=3)
INITIAL = tuple(f"{name}_initial" for name in ("psnr", "ms_ssim", "lpips", "niqe"))


def merit_of(name: str) -> MetricInfo:
    """Of a key of `Summary.estimates`.

    Raises:
        KeyError: it is none.
    """
    return {**MERITS, "outage": OUTAGE}[name.removesuffix("_initial")]


def frechet_label(features: str) -> str:
    """What a Fréchet distance on these features may be called."""
    return "FID" if features == "inception" else f"Fréchet distance ({_network(features)})"


def kernel_label(features: str) -> str:
    """What a kernel distance on these features may be called."""
    return "KID" if features == "inception" else f"kernel distance ({_network(features)})"


def _network(features: str) -> str:
    return {"squeezenet": "SqueezeNet"}.get(features, features)


@dataclass(frozen=True)
class Estimate:
    """A mean over images and channel draws.

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
    """Mean and 95 % confidence interval from a value per transmission.

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
        raise ValueError("a mean is asked for of no values; give at least one (image, value)")
    means = [statistics.fmean(draws) for draws in by_image.values()]
    images, half_width = len(means), None
    if images > 1:
        quantile = float(stdtrit(images - 1, (1 + CONFIDENCE) / 2))
        half_width = quantile * statistics.stdev(means) / math.sqrt(images)
    return Estimate(
        mean=statistics.fmean(means),
        half_width=half_width,
        images=images,
        transmissions=sum(map(len, by_image.values())),
    )


@dataclass(frozen=True)
class Summary:
    """One cell of a sweep: a scheme at a channel, a rate and an SNR.

    Attributes:
        scheme, channel, nominal_rate, nominal_snr_db: the cell, see `Record.cell`.
        rate, snr_db: the true ones, means over its transmissions.
        sampler, steps: of its refiner; None without one.
        estimates: by "psnr", "ms_ssim", "lpips", "niqe", "seconds", "outage" and, of the initial
            images, "psnr_initial" and so on; only where there are figures. Outages count in all.
        distances: by the features that they are taken on.
        absent: images that the scheme cannot send. Means are over the others alone, which are
            those that are easy to code; without any there are no means.
    """

    scheme: str
    channel: str
    nominal_rate: str
    nominal_snr_db: float
    rate: float
    snr_db: float
    sampler: str | None
    steps: int | None
    estimates: dict[str, Estimate]
    distances: dict[str, PointDistances]
    absent: int = 0

    @property
    def cell(self) -> OperatingPoint:
        """As `Record.cell`."""
        return self.scheme, self.channel, self.nominal_rate, self.nominal_snr_db


def summarise(results: Sequence[Results]) -> list[Summary]:
    """Every cell of some folders of results, in the order in which they first appear.

    Where several folders have a cell their transmissions are pooled, one that is in both counts
    once, and of two distances the one on more patches is taken.

    Raises:
        ValueError: a cell has other weights or another sampler in one folder than in another.
    """
    rows: dict[OperatingPoint, dict[object, Record]] = {}
    distances: dict[OperatingPoint, dict[str, PointDistances]] = {}
    absent: dict[OperatingPoint, set[str]] = {}
    for result in results:
        for row in result.rows:
            rows.setdefault(row.cell, {}).setdefault(row.transmission, row)
        for missing in result.absent:
            rows.setdefault(missing.cell, {})
            absent.setdefault(missing.cell, set()).add(missing.image)
        for cell in result.cells:
            known = distances.setdefault(cell.key, {})
            if cell.features not in known or known[cell.features].patches < cell.patches:
                known[cell.features] = cell
    for name in ("weights", "sampler", "steps"):
        _check_agreement(results, name)
    return [
        _summary(key, list(sent.values()), distances.get(key, {}), len(absent.get(key, ())))
        for key, sent in rows.items()
    ]


def _check_agreement(results: Sequence[Results], name: str) -> None:
    """Raises ValueError where rows of one cell differ in what decides them."""
    first: dict[OperatingPoint, tuple[object, Results]] = {}
    for result in results:
        for row in result.rows:
            value, known = first.setdefault(row.cell, (getattr(row, name), result))
            if getattr(row, name) != value:
                scheme, channel, rate, snr_db = row.cell
                raise ValueError(
                    f'"{scheme}" over {channel} at {rate} and {snr_db:g} dB has {name} {value} in '
                    f"{known.folder} and {getattr(row, name)} in {result.folder}; one mean of both "
                    "would say nothing: treat the folders apart, or rename the scheme in one"
                )


def _summary(
    cell: OperatingPoint, rows: Sequence[Record], distances: dict[str, PointDistances], absent: int
) -> Summary:
    scheme, channel, nominal_rate, nominal_snr_db = cell
    estimates = {}
    for name in (*MERITS, *INITIAL, "outage"):
        values = [(f"{row.image} {row.image_hash}", getattr(row, name)) for row in rows]
        present = [(image, value) for image, value in values if value is not None]
        if present:
            estimates[name] = estimate(present)
    return Summary(
        scheme=scheme,
        channel=channel,
        nominal_rate=nominal_rate,
        nominal_snr_db=nominal_snr_db,
        rate=statistics.fmean(row.rate for row in rows) if rows else float(Fraction(nominal_rate)),
        snr_db=statistics.fmean(row.snr_db for row in rows) if rows else nominal_snr_db,
        sampler=rows[0].sampler if rows else None,
        steps=rows[0].steps if rows else None,
        estimates=estimates,
        distances=distances,
        absent=absent,
    )

"""Metrics of images that came out of a link, by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from diffjscc.choices import DEFAULT_METRICS
from diffjscc.metrics.catalogue import (
    METRICS,
    LoadedMetric,
    Metric,
    MetricInfo,
    custom_metric,
)
from diffjscc.metrics.fidelity import MS_SSIM_SMALLEST_SIDE, as_floats, check_pair
from diffjscc.metrics.references import LARGEST, PreparingMetric, References
from diffjscc.metrics.weights import MetricUnavailable

# The values of one image by the metrics' names; None where one is not defined.
Metrics = dict[str, float | None]


@dataclass(frozen=True)
class MetricEvaluator:
    """Measures images against those that were sent.

    Attributes:
        metrics: in the order in which they are shown; names differ.
        references: what metrics keep of originals that images are measured against again.

    Raises:
        ValueError: two metrics have one name.
    """

    metrics: tuple[LoadedMetric, ...]
    references: References = field(
        init=False, repr=False, compare=False, default_factory=References
    )

    def __post_init__(self) -> None:
        names = [info.name for info in self.infos]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two metrics are called {twice}; leave one out, or rename it")

    @classmethod
    def load(
        cls,
        metrics: Sequence[str | Metric] = DEFAULT_METRICS,
        device: torch.device | str = "cpu",
    ) -> tuple[MetricEvaluator, dict[str, MetricUnavailable]]:
        """Load metrics, and those that cannot be had apart.

        Args:
            metrics: names in `METRICS`, or functions, see `custom_metric`.
            device: to compute on.

        Returns:
            The evaluator, and by label why a metric is not in it.

        Raises:
            ValueError: a name is unknown or given twice, or a function is no metric.
        """
        loaded: list[LoadedMetric] = []
        unavailable: dict[str, MetricUnavailable] = {}
        for metric in metrics:
            if not isinstance(metric, str):
                loaded.append(custom_metric(metric))
                continue
            if metric not in METRICS:
                raise ValueError(
                    f"metric {metric!r} is not one of {', '.join(METRICS)}; give one of these, or "
                    "your own as my_module:my_metric"
                )
            entry = METRICS[metric]
            try:
                loaded.append(
                    LoadedMetric(entry.info, entry.load(torch.device(device)), entry.levels)
                )
            except MetricUnavailable as error:
                unavailable[entry.info.label] = error
        return cls(tuple(loaded)), unavailable

    @property
    def infos(self) -> tuple[MetricInfo, ...]:
        """Names and presentation of the metrics."""
        return tuple(metric.info for metric in self.metrics)

    def __call__(self, images: Tensor, references: Tensor) -> list[Metrics]:
        """Measure each of images [B, 3, H, W] against references of that shape.

        Both are multiples of 1/255, or the levels themselves (uint8).

        Images that equal the one before them, as those of digital links do, are measured once.

        Raises:
            ValueError: a metric returns anything but a tensor [B] of numbers that are finite or
                NaN.
        """
        fresh = [
            i == 0
            or not torch.equal(images[i], images[i - 1])
            or not torch.equal(references[i], references[i - 1])
            for i in range(len(images))
        ]
        if not all(fresh):  # large images are not copied without need
            images, references = images[fresh], references[fresh]
        measured = self._measure(images, references)
        return [measured[number - 1] for number in accumulate(fresh)]

    def _measure(self, images: Tensor, references: Tensor) -> list[Metrics]:
        columns = {
            metric.info.name: self._checked(metric, images, references) for metric in self.metrics
        }
        return [
            {name: None if math.isnan(values[i]) else values[i] for name, values in columns.items()}
            for i in range(len(images))
        ]

    def _checked(self, metric: LoadedMetric, images: Tensor, references: Tensor) -> list[float]:
        """The metric's values, one per image; raises unless they are finite or NaN."""
        if not metric.levels or images.dtype != references.dtype:
            images, references = as_floats(images), as_floats(references)
        name, compute = metric.info.name, metric.compute
        if isinstance(compute, PreparingMetric) and _is_kept(references):
            check_pair(images, references)
            found = [
                compute.against(
                    images[i : i + 1],
                    self.references.prepared(name, compute, references[i : i + 1]),
                )
                for i in range(len(images))
            ]
            return _numbers(torch.cat(found), name, len(images))
        return _numbers(compute(images, references), name, len(images))


def _is_kept(references: Tensor) -> bool:
    """Return whether anything is kept of originals [B, 3, H, W] of this size."""
    short = min(references.shape[-2:])
    return short >= MS_SSIM_SMALLEST_SIDE and references.shape[-2:].numel() <= LARGEST


def _numbers(values: object, name: str, images: int) -> list[float]:
    """Check a metric's values, and list them."""
    if not isinstance(values, Tensor):
        kind = type(values).__name__
        raise ValueError(f"metric {name} returned a {kind}; return a tensor [B]")  # noqa: TRY004
    if values.shape != (images,):
        raise ValueError(
            f"metric {name} returned shape {tuple(values.shape)} for {images} images; return "
            "one number per image, [B]"
        )
    if bool(values.isinf().any()):
        raise ValueError(
            f"metric {name} returned an infinite value; return finite numbers, or NaN where it is "
            "not defined"
        )
    found: list[float] = values.tolist()
    return found

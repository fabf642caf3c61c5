"""The metrics and feature networks of an evaluation, loaded where they can be had."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from diffjscc.choices import FeatureName
from diffjscc.evaluation.records import Record
from diffjscc.metrics.catalogue import Metric, frechet_info, kernel_info
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.metrics.feature_networks import FEATURE_NETWORKS, FeatureNet
from diffjscc.metrics.weights import MetricUnavailable
from diffjscc.plugins import import_object, is_import_string


def load_evaluator(
    metrics: Sequence[str | Metric], device: torch.device
) -> tuple[MetricEvaluator, dict[str, MetricUnavailable]]:
    """Load metrics by name, import string or as functions, see `MetricEvaluator.load`.

    Raises:
        ValueError: a metric cannot be imported, is no metric, or has the name of a record's field.
    """
    found = [
        import_object(metric) if isinstance(metric, str) and is_import_string(metric) else metric
        for metric in metrics
    ]
    evaluator, unavailable = MetricEvaluator.load(found, device)
    own = {field.name for field in fields(Record)}
    taken = next((info.name for info in evaluator.infos if info.name in own), None)
    if taken is not None:
        raise ValueError(f"a metric is called {taken}, as a field of records; give it another name")
    return evaluator, unavailable


@dataclass(frozen=True)
class Measures:
    """All that measures the images of a sweep.

    Attributes:
        evaluator: of single images.
        nets: whose features give distances between sets of patches.
        left_out: a sentence for each measure that cannot be had.
    """

    evaluator: MetricEvaluator
    nets: tuple[FeatureNet, ...]
    left_out: tuple[str, ...]

    @classmethod
    def load(
        cls,
        metrics: Sequence[str],
        features: Sequence[FeatureName],
        device: torch.device,
        warn: bool,
    ) -> Measures:
        """Load them on a device; where `warn` is set, a warning gives the reason of each failure.

        Raises:
            ValueError: see `load_evaluator`.
        """
        evaluator, unavailable = load_evaluator(metrics, device)
        nets: list[FeatureNet] = []
        for name in features:
            try:
                nets.append(FEATURE_NETWORKS[name].load().to(device))
            except MetricUnavailable as error:
                labels = frechet_info(name).label, kernel_info(name).label
                unavailable[" and ".join(labels)] = error
        if warn:
            for reason in unavailable.values():
                warnings.warn(str(reason), stacklevel=2)
        left_out = [f"{label}: the weights are not on this machine" for label in unavailable]
        return cls(evaluator, tuple(nets), tuple(left_out))

"""Schemes loaded, and links of them, for what `diffjscc transmit` is asked to send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from diffjscc.cli.choice import OwnReceiver, Point
from diffjscc.cli.jobs import Job, Jobs
from diffjscc.cli.side_by_side import Comparison
from diffjscc.evaluation.records import Absent, Record
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.scheme import Scheme
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.loader import SchemeLoader, load_scheme
from diffjscc.schemes.options import RefinerOptions

METRICS = ("psnr", "ms_ssim", "lpips")


@dataclass(frozen=True, eq=False)
class Preparation:
    """Everything about a transmission but its schemes.

    Attributes:
        points: to send each file at.
        repeats: transmissions per file, point and scheme.
        seed: of noise and fades.
        output: folder of the images.
        evaluator: of the metrics.
        device: to compute on.
        max_side: larger images are reduced to this longest side, in pixels.
    """

    points: Sequence[Point]
    repeats: int
    seed: int
    output: Path
    evaluator: MetricEvaluator
    device: torch.device
    max_side: int | None = None

    def comparison(self, choices: Sequence[SchemeConfig]) -> Jobs[Record | Absent]:
        """Load several schemes, to be sent side by side at each point.

        Raises:
            ValueError: see `SchemeLoader.at`.
        """
        loader = SchemeLoader(str(self.device))
        jobs = []
        for point in self.points:
            links = [
                self._link(choice.name, loader.at(choice, point.rate), point) for choice in choices
            ]
            to = self.output, point.suffix, self.max_side
            jobs.append(Comparison(links, point.snr_db, self.repeats, *to))
        return Jobs(jobs)

    def transmission(self, own: OwnReceiver, options: RefinerOptions) -> Jobs[Record]:
        """Load weights with their own receiver.

        Raises:
            ValueError: see `load_scheme` and `Job`.
        """
        rate = self.points[0].rate
        loaded = load_scheme(own.weights, rate, own.refiner, options, str(self.device))
        name = "deepjscc" if loaded.refiner is None else "diffjscc"
        return Jobs(
            [
                Job(
                    self._link(name, loaded.at_rate(point.rate), point),
                    self.repeats,
                    self.output,
                    own.samples,
                    point.suffix,
                    self.max_side,
                )
                for point in self.points
            ]
        )

    def _link(self, name: str, scheme: Scheme, point: Point) -> Link:
        return Link(
            name,
            scheme,
            point.channel.at(point.snr_db),
            point.channel.label,
            point.snr_db,
            self.seed,
            self.evaluator,
            self.device,
        )

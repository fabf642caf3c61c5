"""Schemes loaded, and links of them, for what `diffjscc transmit` is asked to send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffjscc.cli.choice import OwnReceiver, Point
from diffjscc.cli.jobs import Job, Jobs, Single
from diffjscc.cli.side_by_side import Comparison
from diffjscc.cli.terminal import printed, stderr
from diffjscc.evaluation.records import Absent, Record
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.pretrained.diffjscc import choose_device
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
    """

    points: Sequence[Point]
    repeats: int
    seed: int
    output: Path
    evaluator: MetricEvaluator
    device: torch.device

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
            jobs.append(Comparison(links, point.snr_db, self.repeats, self.output, point.suffix))
        return Jobs(jobs)

    def transmission(self, own: OwnReceiver, options: RefinerOptions) -> Jobs[Record]:
        """Load weights with their own receiver.

        Raises:
            ValueError: see `load_scheme` and `Job`.
        """
        rate = self.points[0].rate
        device = str(self.device)
        loaded = load_scheme(own.weights, rate, own.refiner, options, device, own.correction)
        name = "deepjscc" if loaded.refiner is None else "diffjscc"
        name = "isec" if own.refiner == "isec" else name
        return Jobs(
            [
                Job(
                    self._link(name, loaded.at_rate(point.rate), point),
                    self.repeats,
                    self.output,
                    own.samples,
                    point.suffix,
                )
                for point in self.points
            ]
        )

    def single(
        self,
        choice: SchemeConfig | None,
        own: OwnReceiver,
        options: RefinerOptions,
        deliver: Callable[[Tensor], None],
    ) -> Single:
        """Load one scheme at the only point, whose final images are delivered.

        Args:
            choice: the scheme; None is the weights' own.
            own: weights.
            options: of their receiver.
            deliver: gets each final image, see `Single`.

        Raises:
            ValueError: see `SchemeLoader.at` and `load_scheme`.
        """
        loaded = self.transmission(own, options) if choice is None else self.comparison([choice])
        (link,) = loaded.links
        return Single(link, self.output, deliver)

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


def prepare(
    points: Sequence[Point], repeats: int, seed: int, output: Path, device: str
) -> Preparation:
    """Load the metrics; a warning names those whose weights are missing.

    Arguments are those of `Preparation`, but for the name of the device: "auto", "cpu", …

    Raises:
        ValueError: no such device.
    """
    computing = choose_device(device)
    evaluator, unavailable = MetricEvaluator.load(METRICS, computing)
    for metric, reason in unavailable.items():
        stderr.print(f"[yellow]no {metric}:[/] {printed(reason)}", soft_wrap=True)
    return Preparation(points, repeats, seed, output, evaluator, computing)

"""The sweep: every scheme sends every image over every channel, and all of it is written down.

What a unit of work is was decided before anything runs. Units are shared out over processes, and
each leaves its rows all at once: a run that was killed goes on where it stopped, and any number of
processes writes the same rows.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from accelerate import PartialState

from diffjscc.choices import FeatureName
from diffjscc.data.images import find_images, save_image, unique_stems
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.distances import Distances, check_patches
from diffjscc.evaluation.journal import Journal, Key
from diffjscc.evaluation.plan import Point, Unit, make_points, make_units
from diffjscc.evaluation.records import library_versions
from diffjscc.evaluation.results import (
    Absent,
    ImageInfo,
    KeptImages,
    PointDistances,
    Results,
    ResultsError,
    Setup,
    differences,
    read_lines,
    read_results,
    read_setup,
    write_lines,
    write_setup,
)
from diffjscc.evaluation.statistics import frechet_label, kernel_label
from diffjscc.evaluation.transmission import Delivery, Link, SourceImage, sampling_refiner
from diffjscc.evaluation.uncertainty import colours, disagreement
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.metrics.feature_networks import FeatureNet, InceptionFeatures, SqueezeNetFeatures
from diffjscc.metrics.lpips import LPIPS
from diffjscc.metrics.niqe import Pristine
from diffjscc.metrics.weights import MetricUnavailable
from diffjscc.pretrained.diffjscc import choose_device
from diffjscc.scheme import InfeasibleError
from diffjscc.schemes.loader import SchemeLoader

NETS: dict[FeatureName, type[SqueezeNetFeatures | InceptionFeatures]] = {
    "squeezenet": SqueezeNetFeatures,
    "inception": InceptionFeatures,
}
# How long processes wait for the slowest; torch's own limit of minutes is for training steps.
PATIENCE = timedelta(days=7)


class Sweep:
    """A run, new or taken up where it stopped.

    Args:
        config: its settings.
        folder: of the results; made if need be.
        figure: of the paper that it is the experiment for, such as "fig3".
        left_out: what the caller leaves out, and why.

    Attributes:
        todo: units that this process has to do.
        left_out: all that is not measured, and why.

    Raises:
        ResultsError: the folder holds results of another set-up.
        ValueError: images, weights or rates that cannot be had.
    """

    def __init__(
        self,
        config: SweepConfig,
        folder: Path,
        figure: str | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        self.config, self.folder = config, folder
        asked = choose_device(config.device)
        # Without being told of a CPU, Accelerate takes several processes without GPUs for one each.
        self._state = PartialState(cpu=asked.type == "cpu", timeout=PATIENCE)
        alone = self._state.num_processes == 1 or config.device != "auto"
        self._device = asked if alone else self._state.device
        self._paths = find_images(config.images)
        self._names = unique_stems(self._paths)
        self._image = lru_cache(maxsize=16)(self._read)
        self._sent = [self._describe(index) for index in range(len(self._paths))]
        if config.features:
            check_patches(self._paths, self._sent, config.crop is not None)
        self._schemes = SchemeLoader(str(self._device))
        weights = {
            scheme.name: self._schemes.at(scheme, rate).provenance
            for scheme in config.schemes
            for rate in config.rates
        }
        self.left_out = list(left_out)
        self._judge = self._make_judge()
        nets = self._load_nets()
        self._claim(
            Setup(
                sweep=config.model_dump(mode="json", exclude={"images", "device"}),
                weights=weights,
                images=tuple(self._sent),
                versions=library_versions(),
                device=self._device.type,
                left_out=tuple(self.left_out),
                figure=figure,
            )
        )
        self._points = make_points(config)
        self._unfinished = folder / "unfinished"
        features = self._unfinished / "features"
        self._distances = Distances(nets, features, config.seed, self._device)
        finished = (folder / "rows.jsonl").exists()
        self._ledger = Journal(self._unfinished, self._state.process_index)
        done = self._ledger.read().keys() | {
            (cell, name, repeat)
            for cell, name in self._ledger.read_absent()
            for repeat in range(config.repeats)
        }
        units = [
            unit
            for unit in make_units(config, self._sent)
            if not finished and not done >= self._keys(unit)
        ]
        # All processes have read what there was before one writes more.
        self._state.wait_for_everyone()
        self.todo = units[self._state.process_index :: self._state.num_processes]

    @property
    def leads(self) -> bool:
        """Whether this is the process that talks."""
        return bool(self._state.is_main_process)

    def run(self, progress: Callable[[int], None]) -> Results:
        """Do what is to be done, and read all results.

        Args:
            progress: told how many transmissions were made, after each unit.
        """
        for unit in self.todo:
            self._do(unit)
            progress(len(unit.sent))
        self._state.wait_for_everyone()
        if not (self.folder / "cells.jsonl").exists():
            self._measure_cells()
        self._state.wait_for_everyone()
        if self.leads and self._unfinished.exists():
            self._finish()
        self._state.wait_for_everyone()
        return read_results(self.folder)

    def _read(self, index: int) -> SourceImage:
        """An image, whole or its middle."""
        image = SourceImage.read(self._paths[index], self._names[index])
        side = self.config.crop
        if side is None:
            return image
        height, width = image.pixels.shape[-2:]
        if min(height, width) < side:
            raise ValueError(
                f"{self._paths[index]} is {width}x{height}; no square of {side} pixels can be "
                "taken from it (leave it out, or crop less)"
            )
        top, left = (height - side) // 2, (width - side) // 2
        return SourceImage(image.name, image.pixels[:, top : top + side, left : left + side])

    def _describe(self, index: int) -> ImageInfo:
        image = self._image(index)
        height, width = image.pixels.shape[-2:]
        return ImageInfo(image.name, image.digest, width, height)

    def _make_judge(self) -> MetricEvaluator:
        lpips, pristine = None, None
        if self.config.lpips is not None:
            with self._unless_unavailable("LPIPS"):
                lpips = LPIPS.load(self.config.lpips).to(self._device)
        if self.config.niqe:
            with self._unless_unavailable("NIQE"):
                pristine = Pristine.load()
        return MetricEvaluator(lpips, pristine)

    def _load_nets(self) -> list[FeatureNet]:
        nets: list[FeatureNet] = []
        for name in self.config.features:
            with self._unless_unavailable(f"{frechet_label(name)} and {kernel_label(name)}"):
                nets.append(NETS[name].load().to(self._device))
        return nets

    @contextmanager
    def _unless_unavailable(self, figures: str) -> Iterator[None]:
        """Leave figures out where their network is not to be had; a warning says why."""
        try:
            yield
        except MetricUnavailable as error:
            self.left_out.append(f"{figures}: the weights are not on this machine")
            if self.leads:
                warnings.warn(str(error), stacklevel=2)

    def _claim(self, setup: Setup) -> None:
        """Make the folder this run's, or see that it is."""
        with self._state.main_process_first():
            before = read_setup(self.folder)
            if before is None:
                if self.folder.exists() and any(self.folder.iterdir()):
                    raise ResultsError(
                        f"{self.folder} holds something, but no results; choose another folder"
                    )
                self.folder.mkdir(parents=True, exist_ok=True)
                write_setup(self.folder, setup)
            elif changed := differences(before, setup):
                raise ResultsError(
                    f"{self.folder} holds results of another set-up: {'; '.join(changed)}. Rows of "
                    "different set-ups are never mixed: choose another folder"
                )

    def _keys(self, unit: Unit) -> set[Key]:
        return {(unit.point.cell, self._names[index], repeat) for index, repeat in unit.sent}

    def _link(self, point: Point) -> Link:
        scheme = self._schemes.at(point.scheme, point.rate)
        return Link(
            name=point.scheme.name,
            scheme=scheme,
            channel=point.channel,
            snr_db=point.snr_db,
            seed=self.config.seed,
            judge=self._judge,
            device=self._device,
        )

    def _do(self, unit: Unit) -> None:
        """Transmit; images and features are on the disk before the rows that vouch for them."""
        link = self._link(unit.point)
        rows, absent = [], []
        for index, sent in self._transmit(link, unit):
            if isinstance(sent, InfeasibleError):
                absent.append(Absent(*unit.point.cell, self._names[index], str(sent)))
                continue
            for repeat, delivery in enumerate(sent):
                if repeat == 0 and index < self.config.shown:
                    self._show(link, unit.point, index, delivery)
                original = self._image(index).pixels
                self._distances.add(unit.point, index, repeat, delivery.final, original)
                rows.append(delivery.row)
        self._ledger.append(rows, absent)

    def _transmit(
        self, link: Link, unit: Unit
    ) -> Iterator[tuple[int, list[Delivery] | InfeasibleError]]:
        """What came of each image's transmissions, or why there can be none."""
        parts = [unit.images]
        while parts:
            part = parts.pop(0)
            images = [self._image(index) for index in part]
            try:
                sent = link.transmit(images, range(unit.repeats), unit.at_once)
            except InfeasibleError as error:
                if len(part) == 1:
                    yield part[0], error
                else:
                    parts += [(index,) for index in part]
                continue
            for place, index in enumerate(part):
                yield index, sent[place * unit.repeats : (place + 1) * unit.repeats]

    def _show(self, link: Link, point: Point, index: int, delivery: Delivery) -> None:
        """Keep a transmission's images."""
        shown = self._shown(point, index)
        kept = {
            shown.original: self._image(index).pixels,
            shown.final: delivery.final,
            shown.initial: delivery.initial,
        }
        if shown.uncertainty is not None:
            samples = link.samples(self._image(index), 0, self.config.samples)
            kept[shown.uncertainty] = colours(disagreement(samples))
        for name, image in kept.items():
            if name is not None and image is not None:
                path = self.folder / name
                path.parent.mkdir(exist_ok=True)
                save_image(image, path)

    def _shown(self, point: Point, index: int) -> KeptImages:
        """Where a transmission's images are kept."""
        image = re.sub(r"[^\w.+-]+", "-", self._names[index])
        stem = f"images/{image}-{point.index}"
        scheme = self._schemes.at(point.scheme, point.rate)
        refined, draws = scheme.refiner is not None, sampling_refiner(scheme) is not None
        return KeptImages(
            *point.cell,
            image=self._names[index],
            repeat=0,
            original=f"images/{image}.png",
            final=f"{stem}.png",
            initial=f"{stem}-initial.png" if refined else None,
            uncertainty=f"{stem}-uncertainty.png" if draws and self.config.samples else None,
        )

    def _measure_cells(self) -> None:
        """Distances of this process's share of the cells, if all images could be sent."""
        mine = self._points[self._state.process_index :: self._state.num_processes]
        partial = {cell for cell, _ in self._ledger.read_absent()}
        for point in mine:
            file = self._unfinished / f"cell-{point.index}.jsonl"
            if not file.exists():
                whole = point.cell not in partial
                write_lines(file, self._distances.measure(point) if whole else [])

    def _finish(self) -> None:
        """Put together what all processes have, in the order of the plan."""
        rows, missing = self._ledger.read(), self._ledger.read_absent()
        cells: list[PointDistances] = []
        for point in self._points:
            cells += read_lines(self._unfinished / f"cell-{point.index}.jsonl", PointDistances)
        place = {point.cell: point.index for point in self._points}
        order = {name: index for index, name in enumerate(self._names)}
        if not (self.folder / "rows.jsonl").exists():
            ordered = sorted(rows.values(), key=lambda r: (place[r.cell], order[r.image], r.repeat))
            shown = [
                self._shown(point, index)
                for point in self._points
                for index in range(min(self.config.shown, len(self._names)))
                if (point.cell, self._names[index]) not in missing
            ]
            absent = sorted(missing.values(), key=lambda a: (place[a.cell], order[a.image]))
            write_lines(self.folder / "absent.jsonl", absent)
            write_lines(self.folder / "images.jsonl", shown)
            write_lines(self.folder / "cells.jsonl", cells)
            write_lines(self.folder / "rows.jsonl", ordered)
        shutil.rmtree(self._unfinished)

"""A sweep: every scheme sends every image over every channel at every rate and SNR.

`Sweep` is the plan, `Sweep.prepare` loads what it needs, `SweepRun.run` transmits. Units of work
are decided before anything runs and shared out over processes; each unit leaves its records all at
once: a run that was killed goes on where it stopped, and any number of processes writes the same
records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from diffjscc.data.images import save_image
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.environment import library_versions, source_commit
from diffjscc.evaluation.finish import finish
from diffjscc.evaluation.images import SweepImages
from diffjscc.evaluation.journal import Journal, Key
from diffjscc.evaluation.layout import Layout
from diffjscc.evaluation.lines import ResultsError, write_lines
from diffjscc.evaluation.measures import Measures
from diffjscc.evaluation.plan import PlannedPoint, Unit, make_points, make_units
from diffjscc.evaluation.processes import Processes
from diffjscc.evaluation.records import Absent
from diffjscc.evaluation.results import (
    Results,
    Setup,
    differences,
    read_results,
    read_setup,
    write_setup,
)
from diffjscc.evaluation.sweep_features import SweepFeatures, lacking_patches
from diffjscc.evaluation.transmission import Delivery, Link
from diffjscc.evaluation.uncertainty import colours, disagreement
from diffjscc.metrics.catalogue import undefined
from diffjscc.scheme import InfeasibleError
from diffjscc.schemes.loader import SchemeLoader


@dataclass(frozen=True)
class Sweep:
    """Plan of a sweep: settings and the folder of the results. Making one loads and writes nothing.

    Attributes:
        config: its settings.
        folder: of the results; made if need be.
        figure: of the paper that it is the experiment for, such as "fig3".
        left_out: what the caller leaves out, and why.
    """

    config: SweepConfig
    folder: Path
    figure: str | None = None
    left_out: tuple[str, ...] = ()

    def prepare(self) -> SweepRun:
        """Load images, schemes and metrics, take the folder, and find out what is left to do.

        Raises:
            ResultsError: the folder holds results of another set-up.
            ValueError: images, weights, rates or metrics that cannot be had.
        """
        config = self.config
        processes = Processes(config.device)
        images = SweepImages(config.images, config.crop, config.max_side)
        infos = images.infos()
        too_small = lacking_patches(images.paths, infos, config.crop is not None)
        features = () if too_small else config.features
        reasons = [too_small] if too_small and config.features else []
        reasons += undefined(config.metrics, [(one.height, one.width) for one in infos])
        schemes = SchemeLoader(str(processes.device))
        weights = {
            scheme.name: schemes.at(scheme, rate).provenance
            for scheme in config.schemes
            for rate in config.rates
        }
        measures = Measures.load(config.metrics, features, processes.device, processes.leads)
        setup = Setup(
            sweep=config.model_dump(mode="json", exclude={"images", "device"}),
            weights=weights,
            images=tuple(infos),
            metrics=measures.evaluator.infos,
            versions=library_versions(),
            device=processes.device.type,
            left_out=(*self.left_out, *reasons, *measures.left_out),
            figure=self.figure,
            commit=source_commit(),
        )
        layout = Layout(self.folder)
        with processes.leader_first():
            _claim(layout, setup)
        journal = Journal(layout.unfinished, processes.index)
        run = SweepRun(config, layout, setup, processes, images, schemes, measures, journal)
        # All processes have read what there was before one writes more.
        processes.wait()
        return run


def _claim(layout: Layout, setup: Setup) -> None:
    """Make a folder this run's, or check that it is."""
    before = read_setup(layout)
    if before is None:
        if layout.folder.exists() and any(layout.folder.iterdir()):
            raise ResultsError(
                f"{layout.folder} holds something, but no results; choose another folder"
            )
        layout.folder.mkdir(parents=True, exist_ok=True)
        write_setup(layout, setup)
    elif changed := differences(before, setup):
        raise ResultsError(
            f"{layout.folder} holds results of another set-up: {'; '.join(changed)}. Records of "
            "different set-ups are never mixed: choose another folder"
        )


@dataclass
class SweepRun:
    """A sweep that is ready to run, new or taken up where it stopped; see `Sweep.prepare`.

    Attributes:
        todo: units that this process has to do.
    """

    config: SweepConfig
    layout: Layout
    setup: Setup
    processes: Processes
    images: SweepImages
    schemes: SchemeLoader
    measures: Measures
    journal: Journal
    todo: list[Unit] = field(init=False)

    def __post_init__(self) -> None:
        self._points = make_points(self.config)
        self._features = SweepFeatures(
            self.measures.nets, self.layout.features, self.config.seed, self.processes.device
        )
        done = self.journal.read().keys() | {
            Key(point, name, repeat)
            for point, name in self.journal.read_absent()
            for repeat in range(self.config.repeats)
        }
        units = [
            unit
            for unit in make_units(self.config, self.setup.images)
            if not self.layout.records.exists() and not done >= self._keys(unit)
        ]
        self.todo = list(self.processes.share(units))

    @property
    def leads(self) -> bool:
        """Return whether this is the process that writes messages."""
        return self.processes.leads

    def run(self, progress: Callable[[int], None]) -> Results:
        """Do what is to be done, and read all results.

        Args:
            progress: called with the number of transmissions after each unit.
        """
        for unit in self.todo:
            self._do(unit)
            progress(len(unit.transmissions))
        self.processes.wait()
        if not self.layout.distances.exists():
            self._measure_distances()
        self.processes.wait()
        if self.leads and self.layout.unfinished.exists():
            finish(self.layout, self.config, self._points, self.images.names, self.journal)
        self.processes.wait()
        return read_results(self.layout.folder)

    def _keys(self, unit: Unit) -> set[Key]:
        return {
            Key(unit.point.point, self.images.names[index], repeat)
            for index, repeat in unit.transmissions
        }

    def _link(self, point: PlannedPoint) -> Link:
        return Link(
            name=point.scheme.name,
            scheme=self.schemes.at(point.scheme, point.rate),
            channel=point.channel.at(point.snr_db),
            channel_label=point.channel.label,
            snr_db=point.snr_db,
            seed=self.config.seed,
            evaluator=self.measures.evaluator,
            device=self.processes.device,
        )

    def _do(self, unit: Unit) -> None:
        """Transmit; images and features are on the disk before the records that vouch for them."""
        link = self._link(unit.point)
        records, absent = [], []
        for index, outcome in self._transmit(link, unit):
            if isinstance(outcome, InfeasibleError):
                absent.append(Absent(*unit.point.point, self.images.names[index], str(outcome)))
                continue
            for repeat, delivery in enumerate(outcome):
                if repeat == 0 and index < self.config.shown:
                    self._keep(link, unit.point, index, delivery)
                original = self.images[index].pixels
                self._features.add(unit.point, index, repeat, delivery.final, original)
                records.append(delivery.record)
        self.journal.append(records, absent)

    def _transmit(
        self, link: Link, unit: Unit
    ) -> Iterator[tuple[int, list[Delivery] | InfeasibleError]]:
        """Yield each image's deliveries, or the reason why there can be none."""
        parts = [unit.images]
        while parts:
            part = parts.pop(0)
            images = [self.images[index] for index in part]
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

    def _keep(self, link: Link, point: PlannedPoint, index: int, delivery: Delivery) -> None:
        """Keep a transmission's images."""
        source = self.images[index]
        kept = {
            self.layout.original(source.name): source.pixels,
            self.layout.kept_image(source.name, point.index): delivery.final,
        }
        if delivery.initial is not None:
            kept[self.layout.kept_image(source.name, point.index, "initial")] = delivery.initial
        if self.config.samples and link.sampler is not None:
            samples = link.samples(source, 0, self.config.samples)
            path = self.layout.kept_image(source.name, point.index, "uncertainty")
            kept[path] = colours(disagreement(samples))
        for name, image in kept.items():
            path_ = self.layout.folder / name
            path_.parent.mkdir(exist_ok=True)
            save_image(image, path_)

    def _measure_distances(self) -> None:
        """Distances of this process's share of the points, if all images could be sent."""
        partial = {point for point, _ in self.journal.read_absent()}
        for point in self.processes.share(self._points):
            file = self.layout.point_distances(point.index)
            if not file.exists():
                whole = point.point not in partial
                write_lines(file, self._features.measure(point) if whole else [])

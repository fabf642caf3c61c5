"""A sweep: every scheme sends every image over every channel at every rate and SNR.

`Sweep` is the plan, `Sweep.prepare` loads what it needs, `SweepRun.run` transmits. Units of work
are decided before anything runs and shared out over processes; each unit leaves its records all at
once: a run that was killed goes on where it stopped, and any number of processes writes the same
records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from diffjscc.data.images import save_image
from diffjscc.data.lock import FolderLock
from diffjscc.evaluation.attempts import Refusal, attempt, free
from diffjscc.evaluation.claim import Earlier, claim, lock
from diffjscc.evaluation.completeness import check_planned
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.environment import library_versions, source_commit
from diffjscc.evaluation.finish import finish
from diffjscc.evaluation.images import LARGE, SweepImages
from diffjscc.evaluation.journal import Journal, Key, key_of
from diffjscc.evaluation.layout import Layout
from diffjscc.evaluation.lines import ResultsError, write_lines
from diffjscc.evaluation.measures import Measures
from diffjscc.evaluation.plan import PlannedPoint, Unit, make_points, make_units
from diffjscc.evaluation.processes import Processes
from diffjscc.evaluation.records import Absent, OperatingPoint
from diffjscc.evaluation.results import Results, Setup, read_results
from diffjscc.evaluation.sweep_features import SweepFeatures, lacking_patches
from diffjscc.evaluation.transmission import Delivery, Link
from diffjscc.evaluation.uncertainty import colours, disagreement
from diffjscc.memory import memory_error
from diffjscc.metrics.catalogue import undefined
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
            revisions={
                scheme.name: commit
                for scheme in config.schemes
                if (commit := schemes.commit(scheme)) is not None
            },
        )
        layout = Layout(self.folder)
        store = SweepFeatures(measures.nets, layout.features, config.seed, processes.device)
        with processes.leader_first():
            held = lock(layout) if processes.leads else None
            try:
                claim(layout, setup, lambda earlier: store.has(map(key_of, earlier.records)))
                earlier = Earlier.read(layout)
                check_planned(layout, setup, earlier.records, earlier.absent)
            except BaseException:
                if held is not None:
                    held.release()
                raise
        begun = layout.unfinished.exists() or not layout.records.exists()
        processes.wait()
        run = SweepRun(
            config, layout, setup, processes, images, schemes, measures, store, earlier, begun, held
        )
        try:
            run.plan()
        except BaseException:
            run.release()
            raise
        return run


@dataclass
class SweepRun:
    """A sweep that is ready to run, new or taken up where it stopped; see `Sweep.prepare`.

    Attributes:
        begun: whether a run was begun that is not finished; without any, there may be nothing to do
            at all.
        held: lock of the folder; None where another process of the run holds it.
        todo: units that this process has to do.
        repaired: a sentence for each damage of the folder that this run mends.
        steps: called by every refiner that samples, see `SamplingRefiner.progress`.
    """

    config: SweepConfig
    layout: Layout
    setup: Setup
    processes: Processes
    images: SweepImages
    schemes: SchemeLoader
    measures: Measures
    features: SweepFeatures
    earlier: Earlier
    begun: bool
    held: FolderLock | None
    todo: list[Unit] = field(init=False, default_factory=list)
    repaired: list[str] = field(init=False, default_factory=list)
    steps: Callable[[int, int], None] | None = field(init=False, default=None)

    def plan(self) -> None:
        """Find out what is left to do.

        Raises:
            ResultsError: distances are to be measured, but features are missing.
        """
        self._points = make_points(self.config)
        finished = {key_of(record) for record in self.earlier.records}
        finished |= self._hopeless(self.earlier.absent)
        units = make_units(self.config, self.setup.images, finished)
        self._unmeasured = self._points_without_distances()
        self.repaired = list(self.earlier.repairs)
        lacking = sum(len(unit.transmissions) for unit in units)
        failed = sum(one.failed for one in self.earlier.absent)
        if not self.begun and lacking > failed:
            self.repaired.append(
                f"{self.layout.folder} lacks {lacking - failed} transmissions that were made before"
            )
        self._idle = not (self.begun or units or self._unmeasured or self.repaired)
        if self._idle:
            return
        self.journal = Journal(self.layout.unfinished, self.processes.index)
        journal = self.journal.read().keys()
        if not self.features.has({*finished, *journal} & self._keys_at(self._unmeasured)):
            raise ResultsError(
                f"{self.layout.features} lacks features of what was sent, and "
                f"{self.layout.distances.name} the distances; run the sweep into another folder"
            )
        done = journal | self._hopeless(self.journal.read_absent())
        self.todo = list(
            self.processes.share([unit for unit in units if not done >= self._keys(unit)])
        )
        # All processes have read what there was before one writes more.
        self.processes.wait()

    @property
    def leads(self) -> bool:
        """Return whether this is the process that writes messages."""
        return self.processes.leads

    def run(self, progress: Callable[[int], None]) -> Results:
        """Do what is to be done, and read all results.

        Transmissions that fail are noted, see `Absent`; the next run tries them again.

        Args:
            progress: called with the number of transmissions after each unit.
        """
        try:
            if not self._idle:
                self._run(progress)
            return read_results(self.layout.folder)
        finally:
            self.release()

    def release(self) -> None:
        """Let other runs have the folder."""
        if self.held is not None:
            self.held.release()

    def _run(self, progress: Callable[[int], None]) -> None:
        for unit, following in zip_longest(self.todo, self.todo[1:]):
            if following is not None:
                self.images.read_ahead(self._small(following))
            self._do(unit)
            progress(len(unit.transmissions))
        self.processes.wait()
        self._measure_distances()
        self.processes.wait()
        if self.leads:
            finish(self.layout, self._points, self.images.names, self.journal, self.earlier)
        self.processes.wait()

    def _small(self, unit: Unit) -> list[int]:
        """A unit's images, unless they are so large that one at a time is enough."""
        sizes = [self.setup.images[index].size for index in unit.images]
        within = sum(width * height for width, height in sizes) <= LARGE
        return list(unit.images) if within else []

    def _keys(self, unit: Unit) -> set[Key]:
        return {
            Key(unit.point.point, self.images.names[index], repeat)
            for index, repeat in unit.transmissions
        }

    def _keys_at(self, points: Iterable[PlannedPoint]) -> set[Key]:
        return {
            Key(point.point, name, repeat)
            for point in points
            for name in self.images.names
            for repeat in range(self.config.repeats)
        }

    def _hopeless(self, absent: Iterable[Absent]) -> set[Key]:
        """Transmissions that cannot be made, however often they are tried."""
        return {
            Key(one.point, one.image, repeat)
            for one in absent
            if not one.failed
            for repeat in range(self.config.repeats)
        }

    def _points_without_distances(self) -> list[PlannedPoint]:
        nets = {net.name for net in self.measures.nets}
        partial = {one.point for one in self.earlier.absent if not one.failed}
        measured: dict[OperatingPoint, set[str]] = {}
        for one in self.earlier.distances:
            measured.setdefault(one.point, set()).add(one.features)
        return [
            point
            for point in self._points
            if point.point not in partial and not nets <= measured.get(point.point, set())
        ]

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
        if link.sampler is not None:
            link.sampler.progress = self.steps
        records, absent = [], []
        sent = attempt(link, self.images.__getitem__, unit.images, unit.repeats, unit.at_once)
        for index, outcome in sent:
            refused = outcome if isinstance(outcome, Refusal) else None
            if isinstance(outcome, Delivery):
                refused = self._store(link, unit.point, index, outcome)
                records += [] if refused else [outcome.record]
            if refused is not None:
                absent.append(refused.at(unit.point.point, self.images.names[index]))
        self.journal.append(records, absent)

    def _store(
        self, link: Link, point: PlannedPoint, index: int, delivery: Delivery
    ) -> Refusal | None:
        """Keep what a delivery's record vouches for; a refusal where memory is too small for it."""
        repeat = delivery.record.repeat
        try:
            if repeat == 0 and index < self.config.shown:
                self._keep(link, point, index, delivery)
            source = self.images[index]
            self.features.add(point.point, source.name, repeat, delivery.final, source.pixels)
        except (MemoryError, RuntimeError) as error:
            if memory_error(error) is None:
                raise
            free(error)
            return Refusal(error, repeat)
        return None

    def _keep(self, link: Link, point: PlannedPoint, index: int, delivery: Delivery) -> None:
        """Keep a transmission's images."""
        source = self.images[index]
        kept = {
            self.layout.original(source.name): source.pixels,
            self.layout.kept_image(source.name, point.point): delivery.final,
        }
        if delivery.initial is not None:
            kept[self.layout.kept_image(source.name, point.point, "initial")] = delivery.initial
        if self.config.samples and link.sampler is not None:
            samples = link.samples(source, 0, self.config.samples)
            path = self.layout.kept_image(source.name, point.point, "uncertainty")
            kept[path] = colours(disagreement(samples))
        for name, image in kept.items():
            path_ = self.layout.folder / name
            path_.parent.mkdir(exist_ok=True)
            save_image(image, path_)

    def _measure_distances(self) -> None:
        """Distances of this process's share of the points, if all images could be sent."""
        sent = self.journal.read().keys() | set(map(key_of, self.earlier.records))
        partial = {
            one.point
            for one in self.journal.read_absent()
            if one.repeat is None or Key(one.point, one.image, one.repeat) not in sent
        }
        for point in self.processes.share(self._unmeasured):
            file = self.layout.point_distances(point.point)
            if not file.exists():
                whole = point.point not in partial
                write_lines(file, self.features.measure(point.point) if whole else [])

"""A folder of results: set-up, a record per transmission, distances per operating point, images.

`evaluation.layout` lists its files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from diffjscc.data.files import atomic_write
from diffjscc.evaluation.completeness import check_complete
from diffjscc.evaluation.layout import Layout
from diffjscc.evaluation.lines import (
    ResultsError,
    as_json,
    read_absent,
    read_distances,
    read_kept,
    read_records,
)
from diffjscc.evaluation.records import Absent, KeptImages, OperatingPoint, PointDistances, Record
from diffjscc.metrics.catalogue import MetricInfo

FORMAT = 2
_WAY_OUT = "take it from a copy, or remove the folder and run the sweep again"


@dataclass(frozen=True)
class ImageInfo:
    """An image of the sweep: its name, the start of the hash of its pixels, and its size."""

    name: str
    digest: str
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


@dataclass(frozen=True)
class Setup:
    """All that decides the records of a results folder; they are never mixed with others.

    Attributes:
        sweep: the settings of the sweep, as plain data.
        weights: provenance of each scheme: name and hash of its weights.
        images: that are sent.
        metrics: that the records have, and how they are shown.
        versions: of the libraries that compute.
        device: that they compute on, "cpu" or "cuda".
        left_out: what was asked for but could not be had, and why: one sentence each.
        figure: of the paper that this is the experiment for, such as "fig3"; None otherwise.
        commit: of the source tree that began the run, see `source_commit`; a run may go on with
            another one.
        revisions: commit on the hub of each scheme whose weights come from there. Another commit
            with the same weights is no other set-up.
    """

    sweep: dict[str, Any]
    weights: dict[str, str]
    images: tuple[ImageInfo, ...]
    metrics: tuple[MetricInfo, ...]
    versions: str
    device: str
    left_out: tuple[str, ...] = ()
    figure: str | None = None
    commit: str | None = None
    revisions: dict[str, str] = field(default_factory=dict)


_SETUP = TypeAdapter(Setup)


@dataclass(frozen=True)
class Results:
    """Everything that a results folder holds.

    Attributes:
        folder: that was read.
        setup: what was run.
        records: one per transmission.
        distances: one per operating point and network of features.
        kept: images that were kept.
        absent: what could not be sent.
    """

    folder: Path
    setup: Setup
    records: tuple[Record, ...]
    distances: tuple[PointDistances, ...]
    kept: tuple[KeptImages, ...]
    absent: tuple[Absent, ...] = ()

    @cached_property
    def _places(self) -> dict[tuple[OperatingPoint, str, int], Record]:
        return {(record.point, record.image, record.repeat): record for record in self.records}

    def record_of(self, kept: KeptImages) -> Record:
        """Look up the record of a transmission whose images were kept.

        Raises:
            ResultsError: there is none.
        """
        found = self._places.get((kept.point, kept.image, kept.repeat))
        if found is None:
            layout = Layout(self.folder)
            raise ResultsError(
                f"{self.folder} kept images of {kept.image} by {kept.scheme} without a record; its "
                f"{layout.kept.name} and {layout.records.name} are not of the same run"
            )
        return found


def read_results(folder: str | Path) -> Results:
    """Read a finished folder of results.

    Raises:
        ResultsError: it holds none, unfinished ones, damaged ones or those of another version.
    """
    layout = Layout(Path(folder))
    setup = read_setup(layout)
    if setup is None:
        raise ResultsError(
            f"{folder} holds no results: there is no {layout.setup.name}; `diffjscc evaluate` and "
            "`diffjscc reproduce` make such folders"
        )
    if layout.unfinished.exists() or not layout.records.exists():
        raise ResultsError(
            f"{folder} holds a run that is not finished; start the same command again, it goes on "
            "where it stopped"
        )
    results = Results(
        folder=layout.folder,
        setup=setup,
        records=tuple(read_records(layout.records)),
        distances=tuple(read_distances(layout.distances)),
        kept=tuple(read_kept(layout.kept)),
        absent=tuple(read_absent(layout.absent)),
    )
    check_complete(layout, setup, results.records, results.absent, results.distances)
    return results


def check_records(results: Sequence[Results]) -> None:
    """Raise ValueError unless there are results, and records in each of them."""
    if not results:
        raise ValueError("there are no results to show; give at least one folder of them")
    for result in results:
        if not result.records:
            raise ValueError(f"{result.folder} holds no records; there is nothing to show")


def read_setup(layout: Layout) -> Setup | None:
    """Read the set-up of the results in a folder; None where there are none.

    Raises:
        ResultsError: it is damaged, or of another version of this package.
    """
    path = layout.setup
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is damaged: {error}; {_WAY_OUT}") from error
    if not isinstance(values, dict):
        raise ResultsError(
            f"{path} is damaged: it holds a {type(values).__name__}, not settings by name; "
            f"{_WAY_OUT}"
        )
    written = values.pop("format", None)
    if written != FORMAT:
        raise ResultsError(
            f"{path} is of format {written}, this version of the package reads and writes format "
            f"{FORMAT}; run the sweep again into another folder, or read it with the version that "
            "wrote it"
        )
    try:
        return _SETUP.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        problem = f"{path}: {place}: {first['msg']}; the file is damaged"
        raise ResultsError(f"{problem}: {_WAY_OUT}") from error


def write_setup(layout: Layout, setup: Setup) -> None:
    """Write the set-up of a run."""
    with atomic_write(layout.setup, sync=True) as temporary:
        text = as_json({"format": FORMAT, **asdict(setup)}, indent=1)
        temporary.write_text(f"{text}\n", encoding="utf-8")


def differences(before: Setup, now: Setup) -> list[str]:
    """List the differences of two set-ups, a sentence each."""
    found = [
        f"{one.name} is {getattr(now, one.name)!r}, it was {getattr(before, one.name)!r}"
        for one in fields(Setup)
        if one.name not in ("sweep", "weights", "images", "metrics", "commit", "revisions")
        and getattr(before, one.name) != getattr(now, one.name)
    ]
    metrics = [[info.name for info in setup.metrics] for setup in (before, now)]
    if metrics[0] != metrics[1]:
        found.append(f"metrics are {', '.join(metrics[1])}, they were {', '.join(metrics[0])}")
    for name in ("sweep", "weights"):
        old, new = getattr(before, name), getattr(now, name)
        found += [
            f"{name}.{key} is {new.get(key)!r}, it was {old.get(key)!r}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
    old_images, new_images = set(before.images), set(now.images)
    if old_images != new_images:
        changed = sorted({image.name for image in old_images ^ new_images})
        found.append(f"images differ: {', '.join(changed)}")
    return found

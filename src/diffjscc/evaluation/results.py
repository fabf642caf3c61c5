"""A folder of results: what was run, a row per transmission, distances per cell, images.

RESULTS/setup.json       what was run, see `Setup`
RESULTS/rows.jsonl       a `Record` a line, in the order of the plan
RESULTS/cells.jsonl      a `PointDistances` a line
RESULTS/absent.jsonl     an `Absent` a line: points of a scheme that do not exist for an image
RESULTS/images.jsonl   a `KeptImages` a line: which images were kept, and of what
RESULTS/images/        those images
RESULTS/unfinished/      what a run that is not finished has so far
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from diffjscc.data.files import atomic_write
from diffjscc.evaluation.records import OperatingPoint, Record

FORMAT = 1


class ResultsError(ValueError):
    """A folder does not hold the results that it should; says what it holds and what to do."""


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
    """What decides the rows of a results folder; they are never mixed with others.

    Attributes:
        sweep: the settings of the sweep, as plain data.
        weights: name and hash of each scheme's weights.
        images: what is sent.
        versions: of the libraries that compute.
        device: that they compute on, "cpu" or "cuda".
        left_out: what was asked for but could not be had, and why: one sentence each.
        figure: of the paper that this is the experiment for, such as "fig3"; None otherwise.
    """

    sweep: dict[str, Any]
    weights: dict[str, str]
    images: tuple[ImageInfo, ...]
    versions: str
    device: str
    left_out: tuple[str, ...] = ()
    figure: str | None = None


@dataclass(frozen=True)
class PointDistances:
    """Distances between a cell's final images and the originals, as sets of patches.

    Attributes:
        scheme, channel, nominal_rate, nominal_snr_db: the cell, see `Record.cell`.
        features: the network, "inception" or "squeezenet"; only distances on the former are FID
            and KID.
        patches: of final images; half-overlapping, 256 px a side.
        frechet: Fréchet distance.
        kernel: kernel distance, mean over subsets.
        kernel_deviation: its standard deviation over them.
    """

    scheme: str
    channel: str
    nominal_rate: str
    nominal_snr_db: float
    features: str
    patches: int
    frechet: float
    kernel: float
    kernel_deviation: float

    @property
    def key(self) -> OperatingPoint:
        """As `Record.cell`."""
        return self.scheme, self.channel, self.nominal_rate, self.nominal_snr_db


@dataclass(frozen=True)
class Absent:
    """An image that a scheme cannot send at a point: there is no row of it, and no figure.

    Attributes:
        scheme, channel, nominal_rate, nominal_snr_db, image: its operating point and image.
        reason: what it would take.
    """

    scheme: str
    channel: str
    nominal_rate: str
    nominal_snr_db: float
    image: str
    reason: str

    @property
    def cell(self) -> OperatingPoint:
        """As `Record.cell`."""
        return self.scheme, self.channel, self.nominal_rate, self.nominal_snr_db


@dataclass(frozen=True)
class KeptImages:
    """Images that were kept of one transmission, as paths within the results folder.

    Attributes:
        scheme, channel, nominal_rate, nominal_snr_db, image, repeat: of its row.
        original, final: PNG files.
        initial: likewise; None without a refiner.
        uncertainty: where the receiver's samples disagree, a PNG; None if it was not asked for.
    """

    scheme: str
    channel: str
    nominal_rate: str
    nominal_snr_db: float
    image: str
    repeat: int
    original: str
    final: str
    initial: str | None = None
    uncertainty: str | None = None

    @property
    def cell(self) -> OperatingPoint:
        """As `Record.cell`."""
        return self.scheme, self.channel, self.nominal_rate, self.nominal_snr_db


@dataclass(frozen=True)
class Results:
    """Everything that a results folder holds.

    Attributes:
        folder: it.
        setup: what was run.
        rows: one per transmission.
        cells: distances.
        shown: kept images.
        absent: what could not be sent.
    """

    folder: Path
    setup: Setup
    rows: tuple[Record, ...]
    cells: tuple[PointDistances, ...]
    shown: tuple[KeptImages, ...]
    absent: tuple[Absent, ...] = ()

    def row_of(self, shown: KeptImages) -> Record:
        """The row of a transmission whose images were kept.

        Raises:
            ResultsError: there is none.
        """
        wanted = (shown.cell, shown.image, shown.repeat)
        for row in self.rows:
            if (row.cell, row.image, row.repeat) == wanted:
                return row
        raise ResultsError(
            f"{self.folder} kept images of {shown.image} by {shown.scheme} that no row is of; "
            "its images.jsonl and rows.jsonl are not of the same run"
        )


Line = TypeVar("Line", PointDistances, KeptImages, Absent)


def read_results(folder: str | Path) -> Results:
    """Read a finished folder of results.

    Raises:
        ResultsError: it holds none, unfinished ones, damaged ones or those of another version.
    """
    place = Path(folder)
    setup = read_setup(place)
    if setup is None:
        raise ResultsError(
            f"{place} holds no results: there is no setup.json; `diffjscc evaluate` and "
            "`diffjscc reproduce` make such folders"
        )
    if not (place / "rows.jsonl").exists():
        raise ResultsError(
            f"{place} holds a run that is not finished; start the same command again, it goes on "
            "where it stopped"
        )
    return Results(
        folder=place,
        setup=setup,
        rows=tuple(read_rows(place / "rows.jsonl")),
        cells=tuple(read_lines(place / "cells.jsonl", PointDistances)),
        shown=tuple(read_lines(place / "images.jsonl", KeptImages)),
        absent=tuple(read_lines(place / "absent.jsonl", Absent)),
    )


def check_rows(results: Sequence[Results]) -> None:
    """Raise ValueError unless there are results, and rows in each of them."""
    if not results:
        raise ValueError("there are no results to show; give at least one folder of them")
    for result in results:
        if not result.rows:
            raise ValueError(f"{result.folder} holds no rows; there is nothing to show")


def read_setup(folder: Path) -> Setup | None:
    """What the results in a folder were run with; None where there are none.

    Raises:
        ResultsError: it is damaged, or of another version of this package.
    """
    path = folder / "setup.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        written = values.pop("format", None)
    except (ValueError, AttributeError) as error:
        raise ResultsError(f"{path} is damaged: {error}; remove the folder") from error
    if written != FORMAT:
        raise ResultsError(
            f"{path} is of format {written}, this version of the package writes and reads format "
            f"{FORMAT}; choose another folder, or read it with the version that wrote it"
        )
    return _validated(Setup, values, str(path))


def write_setup(folder: Path, setup: Setup) -> None:
    """Write setup.json."""
    with atomic_write(folder / "setup.json", sync=True) as temporary:
        text = json.dumps({"format": FORMAT, **asdict(setup)}, indent=1, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")


def differences(before: Setup, now: Setup) -> list[str]:
    """What differs between two set-ups, a sentence each."""
    found = [
        f"{field.name} is {getattr(now, field.name)!r}, it was {getattr(before, field.name)!r}"
        for field in fields(Setup)
        if field.name not in ("sweep", "weights", "images")
        and getattr(before, field.name) != getattr(now, field.name)
    ]
    for name in ("sweep", "weights"):
        old, new = getattr(before, name), getattr(now, name)
        found += [
            f"{name}.{key} is {new.get(key)!r}, it was {old.get(key)!r}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
    old_images, new_images = set(before.images), set(now.images)
    if old_images != new_images:
        changed = sorted({sent.name for sent in old_images ^ new_images})
        found.append(f"images differ: {', '.join(changed)}")
    return found


def read_rows(path: Path) -> list[Record]:
    """The rows in a file of them.

    Raises:
        ResultsError: a line is no row of this version.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            rows.append(Record.from_dict(json.loads(line), where))
        except ValueError as error:
            told = str(error)
            raise ResultsError(told if told.startswith(where) else f"{where}: {told}") from error
    return rows


def write_lines(path: Path, lines: Iterable[Record | PointDistances | KeptImages | Absent]) -> None:
    """Write a file of them, one JSON object a line."""
    with atomic_write(path, sync=True) as temporary:
        text = "".join(f"{json.dumps(asdict(line), ensure_ascii=False)}\n" for line in lines)
        temporary.write_text(text, encoding="utf-8")


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """The lines of a file that `write_lines` wrote; none where there is no file.

    Raises:
        ResultsError: a line is damaged.
    """
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            lines.append(_validated(kind, json.loads(line), where))
        except json.JSONDecodeError as error:
            raise ResultsError(f"{where} is damaged: {error}") from error
    return lines


Plain = TypeVar("Plain", Setup, PointDistances, KeptImages, Absent)


def _validated(kind: type[Plain], values: object, where: str) -> Plain:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ResultsError(f"{where}: {place}: {first['msg']}; the file is damaged") from error

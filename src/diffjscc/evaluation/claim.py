"""Take a results folder for a run: a new one, one to go on with, or one to extend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from diffjscc.data.lock import FolderInUse, FolderLock
from diffjscc.evaluation.journal import Journal, key_of
from diffjscc.evaluation.layout import Layout
from diffjscc.evaluation.lines import (
    ResultsError,
    read_absent,
    read_distances,
    read_kept,
    read_records,
    write_lines,
)
from diffjscc.evaluation.records import Absent, KeptImages, PointDistances, Record
from diffjscc.evaluation.results import Setup, differences, read_setup, write_setup

# Settings of a sweep to which values may be added: no record depends on the others.
AXES = ("schemes", "channels", "rates", "snrs_db")
_NO_SET = "distances between distributions"


@dataclass(frozen=True)
class Earlier:
    """Content of the folder's files, which earlier runs wrote.

    Attributes:
        records, distances, kept, absent: see `Results`.
        repairs: a sentence for each damage that was mended in reading; files are not changed yet.
    """

    records: tuple[Record, ...]
    distances: tuple[PointDistances, ...]
    kept: tuple[KeptImages, ...]
    absent: tuple[Absent, ...]
    repairs: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, layout: Layout) -> Earlier:
        """Read the files of a folder, as far as there are any.

        Raises:
            ResultsError: a line is damaged other than by a kill.
        """
        repairs: list[str] = []
        return cls(
            tuple(read_records(layout.records, repairs.append)),
            tuple(read_distances(layout.distances, repairs.append)),
            tuple(read_kept(layout.kept, repairs.append)),
            tuple(read_absent(layout.absent, repairs.append)),
            repairs,
        )


def lock(layout: Layout) -> FolderLock:
    """Make the folder if need be, and lock it.

    Raises:
        ResultsError: another run holds it, or it holds something that is no results.
    """
    folder = layout.folder
    if folder.is_dir() and not layout.setup.exists():
        others = [path for path in folder.iterdir() if path != layout.lock]
        if others:
            raise ResultsError(f"{folder} holds something, but no results; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FolderLock(layout.lock)
    except FolderInUse as error:
        raise ResultsError(str(error)) from None


def claim(layout: Layout, setup: Setup, features_of: Callable[[Earlier], bool]) -> None:
    """Write the set-up of a run, or check that the folder's is the same or a part of it.

    Args:
        layout: of the folder.
        setup: of the run.
        features_of: whether there are features of all that was sent.

    Raises:
        ResultsError: the folder holds results of another set-up.
    """
    before = read_setup(layout)
    if before is None:
        write_setup(layout, setup)
        return
    changed = differences(before, setup)
    if not changed:
        return
    if not extends(setup, before):
        raise ResultsError(
            f"{layout.folder} holds results of another set-up: {'; '.join(changed)}. Records of "
            "different set-ups are never mixed; schemes, channels, rates, SNRs, repeats and images "
            "may be added if those that are there are given, too: choose another folder"
        )
    earlier = Earlier.read(layout)
    more_repeats = setup.sweep["repeats"] > before.sweep["repeats"]
    grown = more_repeats or len(setup.images) > len(before.images)
    if grown:
        _check_features(layout, features_of(earlier))
    journal = Journal(layout.unfinished, 0)
    records = {key_of(record): record for record in earlier.records} | journal.read()
    absent = dict.fromkeys((*earlier.absent, *journal.read_absent()))
    if grown:
        write_lines(layout.distances, [])
    write_lines(layout.absent, absent)
    write_lines(layout.records, records.values())
    for file in layout.unfinished.glob("*.jsonl"):
        file.unlink()
    write_setup(layout, setup)


def _check_features(layout: Layout, complete: bool) -> None:
    if not complete:
        raise ResultsError(
            f"{layout.features} lacks features of what was sent, of which distances would be "
            "measured anew; choose another folder, or one of a sweep with features=[]"
        )


def extends(now: Setup, before: Setup) -> bool:
    """Return whether a set-up only adds values to the axes of another one, images or repeats."""
    old, new = before.sweep, now.sweep
    lists = all(isinstance(old.get(axis), list) for axis in AXES)
    if not lists or not isinstance(old.get("repeats"), int):
        return False  # damaged, or of another version
    fixed = old.keys() - {*AXES, "repeats"}
    reasons = [reason for reason in now.left_out if reason not in before.left_out]
    same_sets = any(_NO_SET in reason for reason in now.left_out) == any(
        _NO_SET in reason for reason in before.left_out
    )
    return (
        old.keys() == new.keys()
        and all(old[key] == new[key] for key in fixed)
        and all(value in new[axis] for axis in AXES for value in old[axis])
        and new["repeats"] >= old["repeats"]
        and set(before.images) <= set(now.images)
        and before.weights.items() <= now.weights.items()
        and [info.name for info in before.metrics] == [info.name for info in now.metrics]
        and (before.versions, before.device, before.figure)
        == (now.versions, now.device, now.figure)
        # Reasons that name an image may name another one.
        and (not reasons or same_sets)
    )

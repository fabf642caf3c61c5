"""Append-only journal of an unfinished sweep: safe against kills, written by several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import TypeAdapter

from diffjscc.evaluation.lines import ABSENT, RECORDS, read_lines, to_text
from diffjscc.evaluation.records import Absent, OperatingPoint, Record


class Key(NamedTuple):
    """Identity of a transmission within its sweep, where all share the seed."""

    point: OperatingPoint
    image: str
    repeat: int


def key_of(record: Record) -> Key:
    """Identity of a record's transmission."""
    return Key(record.point, record.image, record.repeat)


Line = TypeVar("Line", Record, Absent)


class Journal:
    """Two files a process, of records and of images that cannot be sent, in one folder.

    Records are appended a unit at a time, in one write, and are on the disk when `append` returns.
    A kill may leave part of a unit, whose last line may be cut: that line is dropped.

    Args:
        folder: of the files; made if need be.
        process: number of this process.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self.folder = folder
        self.file = folder / f"rows-{process}.jsonl"
        self.absent = folder / f"absent-{process}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        for file in (self.file, self.absent):
            if file.exists():
                whole = file.read_bytes().rfind(b"\n") + 1
                os.truncate(file, whole)

    def read(self) -> dict[Key, Record]:
        """Read the records that all processes, of this run and of those before it, have written.

        Raises:
            ResultsError: a file is damaged in the middle, where no kill could have cut it.
        """
        records = self._lines("rows", RECORDS)
        return {key_of(record): record for record in records}

    def read_absent(self) -> list[Absent]:
        """Read what could not be sent; what was tried again may be there several times.

        Raises:
            ResultsError: see `read`.
        """
        return list(self._lines("absent", ABSENT))

    def append(self, records: Sequence[Record], absent: Sequence[Absent] = ()) -> None:
        """Write a unit's records, and which of its images cannot be sent."""
        for file, text in ((self.absent, to_text(absent)), (self.file, to_text(records))):
            if not text:
                continue
            with file.open("ab") as opened:
                opened.write(text.encode())
                opened.flush()
                os.fsync(opened.fileno())

    def _lines(self, name: str, kind: TypeAdapter[Line]) -> Iterator[Line]:
        """Every line of all processes' files of a name; what a kill cut is done again."""
        for file in sorted(self.folder.glob(f"{name}-*.jsonl")):
            yield from read_lines(file, kind, repair=lambda _: None)

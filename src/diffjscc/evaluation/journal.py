"""What a run that is not finished has so far: safe against kills, written by several processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from diffjscc.evaluation.records import OperatingPoint, Record
from diffjscc.evaluation.results import Absent, ResultsError

# What tells a transmission from the others of its sweep: `Record.cell`, image and repeat.
Key = tuple[OperatingPoint, str, int]


Line = TypeVar("Line", Record, Absent)


def key_of(row: Record) -> Key:
    """The transmission that a row is of."""
    return row.cell, row.image, row.repeat


class Journal:
    """Two files a process, of rows and of images that cannot be sent, in one folder.

    Rows are appended a unit at a time, in one write, and are on the disk when `append` returns. A
    kill may leave part of a unit, whose last line may be cut: that line counts for nothing.

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
        """The rows that all processes, of this run and of those before it, have written.

        Raises:
            ResultsError: a file is damaged in the middle, where no kill could have cut it.
        """
        return {key_of(row): row for row in self._lines("rows", Record.from_dict)}

    def read_absent(self) -> dict[tuple[OperatingPoint, str], Absent]:
        """What cannot be sent, by cell and image, likewise.

        Raises:
            ResultsError: as of `read`.
        """
        kind = TypeAdapter(Absent)
        found = self._lines("absent", lambda values, _: kind.validate_python(values))
        return {(absent.cell, absent.image): absent for absent in found}

    def append(self, rows: Sequence[Record], absent: Sequence[Absent] = ()) -> None:
        """Write a unit's rows, and which of its images cannot be sent."""
        for file, lines in ((self.absent, absent), (self.file, rows)):
            if not lines:
                continue
            text = "".join(f"{json.dumps(asdict(line), ensure_ascii=False)}\n" for line in lines)
            with file.open("ab") as opened:
                opened.write(text.encode())
                opened.flush()
                os.fsync(opened.fileno())

    def _lines(self, name: str, make: Callable[[dict[str, Any], str], Line]) -> Iterator[Line]:
        """Every line of all processes' files of a name, made from its values and its place."""
        for file in sorted(self.folder.glob(f"{name}-*.jsonl")):
            complete = file.read_text(encoding="utf-8").rpartition("\n")[0]
            for number, line in enumerate(complete.splitlines(), 1):
                where = f"{file}, line {number}"
                try:
                    made = make(json.loads(line), where)
                except ValueError as error:
                    raise ResultsError(f"{where} is damaged ({error}); remove this file") from error
                yield made

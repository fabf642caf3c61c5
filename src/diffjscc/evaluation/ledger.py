"""Rows of a run that is not finished: safe against kills, written by several processes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from diffjscc.evaluation.results import ResultsError
from diffjscc.evaluation.rows import CellKey, Row

# What tells a transmission from the others of its sweep: `Row.cell`, picture and repeat.
Key = tuple[CellKey, str, int]


def key_of(row: Row) -> Key:
    """The transmission that a row is of."""
    return row.cell, row.image, row.repeat


class Ledger:
    """One file of rows a process, in one folder.

    Rows are appended a unit at a time, in one write, and are on the disk when `append` returns. A
    kill may leave part of a unit, whose last line may be cut: that line counts for nothing.

    Args:
        folder: of the files; made if need be.
        process: number of this process.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self.folder = folder
        self.file = folder / f"rows-{process}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        if self.file.exists():
            whole = self.file.read_bytes().rfind(b"\n") + 1
            os.truncate(self.file, whole)

    def read(self) -> dict[Key, Row]:
        """What all processes, of this run and of those before it, have written.

        Raises:
            ResultsError: a file is damaged in the middle, where no kill could have cut it.
        """
        rows: dict[Key, Row] = {}
        for file in sorted(self.folder.glob("rows-*.jsonl")):
            complete = file.read_text(encoding="utf-8").rpartition("\n")[0]
            for number, line in enumerate(complete.splitlines(), 1):
                where = f"{file}, line {number}"
                try:
                    row = Row.from_dict(json.loads(line), where)
                except ValueError as error:
                    raise ResultsError(f"{where} is damaged ({error}); remove this file") from error
                rows[key_of(row)] = row
        return rows

    def append(self, rows: Sequence[Row]) -> None:
        """Write a unit's rows."""
        text = "".join(f"{json.dumps(row.as_dict(), ensure_ascii=False)}\n" for row in rows)
        with self.file.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

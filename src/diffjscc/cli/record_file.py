"""The file that `diffjscc transmit --json` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from diffjscc.data.files import atomic_write
from diffjscc.evaluation.lines import as_json
from diffjscc.evaluation.records import Record


class RecordFile:
    """A JSON array, one object a line; without the brackets if the name ends in .jsonl.

    It grows by one write a record and is complete after each: it can be read at every moment, and
    what stops the command costs no record.

    Args:
        path: the file; one that exists is replaced, its folder is made if need be.
    """

    def __init__(self, path: Path) -> None:
        lines = path.suffix.lower() == ".jsonl"
        self._head, self._between, self._tail = (
            ("", "\n", "\n") if lines else ("[\n", ",\n", "\n]\n")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text("" if lines else "[\n]\n", encoding="utf-8")
        self._file = path.open("r+b", buffering=0)
        self._end = len(self._head)  # of the last record, in bytes
        self._empty = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Append a record.

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        text = ("" if self._empty else self._between) + as_json(record.as_dict())
        line, tail = text.encode(), self._tail.encode()
        self._file.seek(self._end)
        try:
            written = self._file.write(line + tail)
            if written != len(line + tail):
                raise OSError(f"{self._file.name}: cannot write: the disk is full")
        except OSError:
            self._file.seek(self._end)
            self._file.write(b"]\n" if self._empty and self._head else b"" if self._empty else tail)
            self._file.truncate()
            raise
        self._end += len(line)
        self._empty = False

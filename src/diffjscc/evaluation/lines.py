"""Files of JSON lines, one dataclass object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from diffjscc.data.files import atomic_write
from diffjscc.evaluation.records import Absent, KeptImages, PointDistances, Record

Line = TypeVar("Line", Record, PointDistances, KeptImages, Absent)

# Each is built once: that takes far longer than reading a line.
_RECORDS = TypeAdapter(Record)
_DISTANCES = TypeAdapter(PointDistances)
_KEPT = TypeAdapter(KeptImages)
_ABSENT = TypeAdapter(Absent)


class ResultsError(ValueError):
    """A folder does not hold the results that it should; the text says the way out."""


def to_text(lines: Iterable[Record | PointDistances | KeptImages | Absent]) -> str:
    """Compact JSON, one object a line, each line ended."""
    return "".join(
        json.dumps(asdict(line), ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines
    )


def write_lines(path: Path, lines: Iterable[Record | PointDistances | KeptImages | Absent]) -> None:
    """Write a file of lines, atomically."""
    with atomic_write(path, sync=True) as temporary:
        temporary.write_text(to_text(lines), encoding="utf-8")


def read_records(path: Path) -> list[Record]:
    """Read a file of records; see `read_lines`."""
    return read_lines(path, _RECORDS)


def read_distances(path: Path) -> list[PointDistances]:
    """Read a file of distances; none where there is no file. See `read_lines`."""
    return read_lines(path, _DISTANCES) if path.exists() else []


def read_kept(path: Path) -> list[KeptImages]:
    """Read a list of kept images; none where there is no file. See `read_lines`."""
    return read_lines(path, _KEPT) if path.exists() else []


def read_absent(path: Path) -> list[Absent]:
    """Read a list of what cannot be sent; none where there is no file. See `read_lines`."""
    return read_lines(path, _ABSENT) if path.exists() else []


def read_lines(path: Path, kind: TypeAdapter[Line]) -> list[Line]:
    """Read a file of lines.

    A last line that does not end is left out: a process that was killed may have cut it.

    Raises:
        ResultsError: a line is damaged; names the file, the line and what is wrong.
    """
    complete = path.read_bytes().rpartition(b"\n")[0]
    lines: list[Line] = []
    for number, line in enumerate(complete.splitlines(), 1):
        try:
            lines.append(kind.validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ResultsError(
                f"{path}, line {number}: {place and f'{place}: '}{first['msg']}; the file is "
                "damaged, or another version of this package wrote it"
            ) from error
    return lines

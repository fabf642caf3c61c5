"""Files of JSON lines, one dataclass object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from diffjscc.data.files import atomic_write
from diffjscc.evaluation.records import Absent, KeptImages, PointDistances, Record
from diffjscc.paths import printable

Line = TypeVar("Line", Record, PointDistances, KeptImages, Absent)

_SURROGATES = re.compile("[\ud800-\udfff]")
# str.splitlines, and readers built on it, end a line at these as well; JSON does not escape them.
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")

# Each is built once: that takes far longer than reading a line.
_RECORDS = TypeAdapter(Record)
_DISTANCES = TypeAdapter(PointDistances)
_KEPT = TypeAdapter(KeptImages)
_ABSENT = TypeAdapter(Absent)


class ResultsError(ValueError):
    """A folder does not hold the results that it should; the text says the way out."""


def as_json(values: Any, indent: int | None = None) -> str:  # noqa: ANN401 - as json.dumps
    """Write JSON that is UTF-8, and one line without `indent` for every kind of reader.

    Text that is no Unicode cannot be written: it is escaped as by `printable`.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(values, ensure_ascii=False, indent=indent, separators=separators)
    if _SURROGATES.search(text):
        text = json.dumps(
            _escaped(values), ensure_ascii=False, indent=indent, separators=separators
        )
    return _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(values: Any) -> Any:  # noqa: ANN401 - plain data
    if isinstance(values, str):
        return printable(values)
    if isinstance(values, dict):
        return {_escaped(key): _escaped(value) for key, value in values.items()}
    return [_escaped(value) for value in values] if isinstance(values, list | tuple) else values


def to_text(lines: Iterable[Record | PointDistances | KeptImages | Absent]) -> str:
    """Compact JSON, one object a line, each line ended."""
    return "".join(as_json(asdict(line)) + "\n" for line in lines)


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
    for number, line in enumerate(complete.split(b"\n") if complete else (), 1):
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

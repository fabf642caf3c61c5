"""Files of JSON lines, one dataclass object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from diffjscc.data.files import atomic_write
from diffjscc.evaluation.records import Absent, KeptImages, PointDistances, Record
from diffjscc.paths import printable

Repair = Callable[[str], None]
Line = TypeVar("Line", Record, PointDistances, KeptImages, Absent)

_SURROGATES = re.compile("[\ud800-\udfff]")
# str.splitlines, and readers built on it, end a line at these as well; JSON does not escape them.
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")

# Each is built once: that takes far longer than reading a line.
RECORDS = TypeAdapter(Record)
_DISTANCES = TypeAdapter(PointDistances)
_KEPT = TypeAdapter(KeptImages)
ABSENT = TypeAdapter(Absent)


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


def read_records(path: Path, repair: Repair | None = None) -> list[Record]:
    """Read a file of records; none where there is no file. See `read_lines`."""
    return read_lines(path, RECORDS, lambda one: (one.point, one.image, one.repeat), repair)


def read_distances(path: Path, repair: Repair | None = None) -> list[PointDistances]:
    """Read a file of distances; none where there is no file. See `read_lines`."""
    return read_lines(path, _DISTANCES, lambda one: (one.point, one.features), repair)


def read_kept(path: Path, repair: Repair | None = None) -> list[KeptImages]:
    """Read a list of kept images; none where there is no file. See `read_lines`."""
    return read_lines(path, _KEPT, lambda one: (one.point, one.image, one.repeat), repair)


def read_absent(path: Path, repair: Repair | None = None) -> list[Absent]:
    """Read a list of what could not be sent; none where there is no file. See `read_lines`."""
    return read_lines(path, ABSENT, lambda one: (one.point, one.image, one.repeat), repair)


def read_lines(
    path: Path,
    kind: TypeAdapter[Line],
    key: Callable[[Line], Hashable] | None = None,
    repair: Repair | None = None,
) -> list[Line]:
    """Read a file of lines; none where there is no file.

    Args:
        path: the file.
        kind: of the lines.
        key: of lines that may be equal; None where equal ones are no fault.
        repair: called with a sentence where a last line that is cut, as by a kill, or one that is
            there twice is left out; None makes that an error.

    Raises:
        ResultsError: a line is damaged, cut, or there twice; says which and the way out.
    """
    if not path.exists():
        return []
    *complete, rest = path.read_bytes().split(b"\n")
    if rest:
        _mend(repair, f"{path} is cut short in line {len(complete) + 1}")
    lines: list[Line] = []
    places: dict[Hashable, list[int]] = {}
    for number, text in enumerate(complete, 1):
        line = _parse(text, kind, path, number)
        same = places.setdefault(number if key is None else key(line), [])
        twice = next((place for place in same if lines[place] == line), None)
        if twice is None:
            same.append(len(lines))
            lines.append(line)
        else:
            _mend(repair, f"{path} holds a line a second time in line {number}")
    return lines


def _mend(repair: Repair | None, damage: str) -> None:
    if repair is None:
        raise ResultsError(
            f"{damage}; `diffjscc evaluate` with the same settings and folder repairs it"
        )
    repair(damage)


def _parse(text: bytes, kind: TypeAdapter[Line], path: Path, number: int) -> Line:
    """Read one line; NaN is no number here, and neither is infinity."""
    try:
        if b"NaN" in text or b"Infinity" in text:
            json.loads(text, parse_constant=_refuse)
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        problem = ".".join(map(str, first["loc"])) + ": " * bool(first["loc"]) + first["msg"]
        cause: Exception = error
    except (ValueError, RecursionError) as error:
        problem, cause = str(error), error
    raise ResultsError(
        f"{path}, line {number}: {problem}; the file is damaged, or another version of this "
        "package wrote it: remove the line and run `diffjscc evaluate` again, which makes it anew"
    ) from cause


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of a record")

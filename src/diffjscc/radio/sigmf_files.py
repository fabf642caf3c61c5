"""IQ files: SigMF recordings, and raw samples by their suffix."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffjscc.data.files import atomic_write
from diffjscc.radio.captures import FileCapture, as_bytes
from diffjscc.version import __version__

Complex = NDArray[np.complex64]

DATA_SUFFIX, META_SUFFIX = ".sigmf-data", ".sigmf-meta"
RAW_SUFFIXES = {
    ".cf32": "cf32_le",
    ".fc32": "cf32_le",
    ".cfile": "cf32_le",
    ".ci16": "ci16_le",
    ".sc16": "ci16_le",
}
_LARGEST_META = 1 << 26  # bytes


@dataclass(frozen=True)
class Annotation:
    """A stretch of samples.

    Attributes:
        start: index of its first sample.
        count: samples.
        label: short name.
        comment: longer text.
    """

    start: int
    count: int
    label: str
    comment: str = ""


@dataclass(frozen=True)
class Recording:
    """Samples of a file, and what its metadata says.

    Attributes:
        capture: the samples.
        sample_rate: in Hz.
        centre_frequency: in Hz; None where it is not known.
    """

    capture: FileCapture
    sample_rate: float
    centre_frequency: float | None


def datatype_for(path: Path, datatype: str | None = None) -> str:
    """Return the datatype of a file to write: as asked for, or by its suffix.

    Raises:
        ValueError: the suffix says another one, or nothing.
    """
    said = RAW_SUFFIXES.get(path.suffix)
    if said is None and path.suffix not in (DATA_SUFFIX, META_SUFFIX):
        raise ValueError(
            f"{path}: the suffix must be {DATA_SUFFIX}, or of raw samples: "
            f"{', '.join(RAW_SUFFIXES)}"
        )
    if said is not None and datatype not in (None, said):
        raise ValueError(f"{path} holds {said} by its suffix, but {datatype} is asked for")
    return said or datatype or "cf32_le"


def write_recording(
    path: Path,
    samples: Complex,
    sample_rate: float,
    centre_frequency: float | None,
    datatype: str,
    annotations: Sequence[Annotation] = (),
) -> list[Path]:
    """Write samples: SigMF data and metadata, or raw samples alone, by the suffix.

    Args:
        path: of the data (or metadata), see `datatype_for`.
        samples: complex64 [N]; integers hold ±1.
        sample_rate: in Hz.
        centre_frequency: in Hz, or None.
        datatype: "cf32_le" or "ci16_le".
        annotations: of SigMF.

    Returns:
        Files written.

    Raises:
        ValueError: metadata that SigMF does not allow, or SigMF is not installed.
        OSError: a file cannot be written.
    """
    content = as_bytes(samples, datatype)
    if path.suffix in RAW_SUFFIXES:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return [path]
    first: dict[str, Any] = {"core:sample_start": 0}
    if centre_frequency is not None:
        first["core:frequency"] = centre_frequency
    metadata = {
        "global": {
            "core:datatype": datatype,
            "core:sample_rate": sample_rate,
            "core:version": "1.2.0",
            "core:num_channels": 1,
            "core:recorder": f"diffjscc {__version__}",
            "core:sha512": hashlib.sha512(content).hexdigest(),
        },
        "captures": [first],
        "annotations": [
            {
                "core:sample_start": note.start,
                "core:sample_count": note.count,
                "core:label": note.label,
                "core:comment": note.comment,
            }
            for note in annotations
        ],
    }
    data, meta = path.with_suffix(DATA_SUFFIX), path.with_suffix(META_SUFFIX)
    _check(metadata, meta)
    with atomic_write(data) as temporary, atomic_write(meta) as beside:
        temporary.write_bytes(content)
        beside.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    return [data, meta]


def open_recording(
    path: Path, sample_rate: float | None = None, datatype: str | None = None
) -> Recording:
    """Open a SigMF recording, or raw samples.

    Args:
        path: of a recording's data or metadata, or of raw samples.
        sample_rate: in Hz; raw samples need it, and recordings have their own.
        datatype: of raw samples whose suffix does not say it.

    Raises:
        ValueError: metadata that is missing, invalid or not supported, or no samples.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a capture")
    if path.suffix in (DATA_SUFFIX, META_SUFFIX):
        return _open_sigmf(path.with_suffix(DATA_SUFFIX), path.with_suffix(META_SUFFIX))
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give a capture")
    chosen = datatype or RAW_SUFFIXES.get(path.suffix)
    if chosen is None:
        raise ValueError(
            f"{path}: the suffix does not say what samples it holds; name it by one of "
            f"{', '.join(RAW_SUFFIXES)}, or give --datatype"
        )
    if sample_rate is None:
        raise ValueError(f"{path} holds raw samples, without their rate; give --sample-rate")
    return Recording(FileCapture(path, chosen), _rate(sample_rate, "--sample-rate"), None)


def _open_sigmf(data: Path, meta: Path) -> Recording:
    for file in (data, meta):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist; a recording is a {DATA_SUFFIX} with its {META_SUFFIX}"
            )
    if meta.stat().st_size > _LARGEST_META:
        raise ValueError(f"{meta} has {meta.stat().st_size:,} bytes; that is no SigMF metadata")
    try:
        metadata = json.loads(meta.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{meta} is not valid JSON: {error}") from error
    _check(metadata, meta)
    general, captures = metadata["global"], metadata["captures"]
    if general.get("core:num_channels", 1) != 1:
        raise ValueError(f"{meta}: {general['core:num_channels']} channels; one can be received")
    rate = general.get("core:sample_rate")
    if rate is None:
        raise ValueError(f"{meta} has no core:sample_rate; add it")
    if any(part.get("core:header_bytes") for part in captures) or "core:dataset" in general:
        raise ValueError(f"{meta} describes a non-conforming dataset; convert it to {DATA_SUFFIX}")
    frequency = captures[0].get("core:frequency") if captures else None
    capture = FileCapture(data, general["core:datatype"])
    return Recording(capture, _rate(rate, f"{meta}: core:sample_rate"), frequency)


def _check(metadata: object, meta: Path) -> None:
    """Validate metadata by the standard's own schema."""
    try:
        from sigmf.error import SigMFError  # noqa: PLC0415
        from sigmf.validate import validate  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            f"{meta}: SigMF files need the package sigmf (pip install 'diffjscc[radio]'), or take "
            "raw samples, such as .cf32"
        ) from error
    from jsonschema import ValidationError  # noqa: PLC0415 - sigmf's own dependency

    if not isinstance(metadata, dict):
        raise ValueError(f"{meta} holds {type(metadata).__name__}; SigMF metadata is an object")  # noqa: TRY004
    try:
        validate(metadata)
    except ValidationError as error:
        where = "/".join(map(str, error.absolute_path)) or "metadata"
        raise ValueError(f"{meta} is not valid SigMF: {where}: {error.message[:200]}") from error
    except SigMFError as error:
        raise ValueError(f"{meta} is not valid SigMF: {error}") from error


def _rate(value: float, name: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}; it must be above 0 Hz")
    return float(value)

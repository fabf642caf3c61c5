"""Captures: complex samples in memory or in a file, read piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex64]

# Element types of SigMF that are read and written, and the values of a sample.
DATATYPES = {"cf32_le": "<f4", "ci16_le": "<i2"}
_FULL_SCALE = 32768  # of ci16_le
# Larger values are faults: their powers would leave the range of single precision.
_LARGEST = 1e15


class Capture(Protocol):
    """Complex samples that are read piece by piece."""

    @property
    def length(self) -> int:
        """Samples in all."""
        ...

    def read(self, start: int, count: int) -> Complex:
        """Read finite samples from `start` on, complex64; zeros beyond either end."""
        ...


@dataclass(frozen=True)
class Samples:
    """A capture in memory.

    Attributes:
        values: complex64 [N]; samples that are not finite read as 0.
    """

    values: Complex

    @property
    def length(self) -> int:
        """Samples in all."""
        return len(self.values)

    def read(self, start: int, count: int) -> Complex:
        """See `Capture.read`."""
        part = self.values[max(start, 0) : max(start + count, 0)]
        return _padded(finite(part), start, count)


@dataclass(frozen=True)
class FileCapture:
    """A capture in a file of interleaved real and imaginary parts.

    Attributes:
        path: the file.
        datatype: one of `DATATYPES`.

    Raises:
        ValueError: another datatype, or the file holds no whole sample.
        OSError: the file cannot be read.
    """

    path: Path
    datatype: str

    def __post_init__(self) -> None:
        if self.datatype not in DATATYPES:
            raise ValueError(
                f"{self.path}: samples of type {self.datatype} are not read; convert them to one "
                f"of {', '.join(DATATYPES)}"
            )
        if not self.length:
            raise ValueError(f"{self.path} holds no sample of {self.datatype}; record again")

    @property
    def length(self) -> int:
        """Samples in all; a last one that is incomplete does not count."""
        return self.path.stat().st_size // self._sample_bytes

    @property
    def _sample_bytes(self) -> int:
        return 2 * np.dtype(DATATYPES[self.datatype]).itemsize

    def read(self, start: int, count: int) -> Complex:
        """See `Capture.read`; samples that are not finite read as 0."""
        first = max(start, 0)
        wanted = 2 * max(min(start + count, self.length) - first, 0)
        element = DATATYPES[self.datatype]
        # A mapped file would count as memory of the process.
        part = np.fromfile(self.path, element, wanted, offset=first * self._sample_bytes)
        if not part.any():
            return np.zeros(count, np.complex64)
        if self.datatype == "ci16_le":
            part = part.astype(np.float32) / _FULL_SCALE
        return _padded(finite(part.astype(np.float32).view(np.complex64)), start, count)


def as_bytes(samples: Complex, datatype: str) -> bytes:
    """Convert samples to a file's bytes; integers are rounded, and clipped at full scale, ±1."""
    if datatype == "cf32_le":
        return samples.astype("<c8").tobytes()
    levels = np.round(samples.astype(np.complex64).view(np.float32) * _FULL_SCALE)
    return np.clip(levels, -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes()


def finite(samples: Complex) -> Complex:
    """Replace samples that are not finite, or absurdly large, by 0."""
    magnitudes = np.abs(samples)
    if bool((magnitudes < _LARGEST).all()):  # false for NaN too
        return samples
    replaced: Complex = np.where(magnitudes < _LARGEST, samples, 0).astype(np.complex64)
    return replaced


def _padded(part: Complex, start: int, count: int) -> Complex:
    """Extend what was read by the zeros beyond either end."""
    before = min(max(-start, 0), count)
    after = count - before - len(part)
    return np.pad(part, (before, after)) if before or after else part

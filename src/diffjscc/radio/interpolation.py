"""Band-limited interpolation: samples at any instants."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex64]

_HALF = 16  # samples on either side that take part
_PHASES = 4096  # instants are rounded to so many parts of a sample
_SHAPE = 8.0  # of the Kaiser window
_BLOCK = 1 << 14


@cache
def _filters() -> NDArray[np.float32]:
    """Sinc under a Kaiser window at every phase, float32 [phases + 1, 2·half]."""
    phases = np.arange(_PHASES + 1)[:, None] / _PHASES
    distance = phases - np.arange(1 - _HALF, _HALF + 1)
    window = np.i0(_SHAPE * np.sqrt(np.maximum(0, 1 - (distance / _HALF) ** 2))) / np.i0(_SHAPE)
    return (np.sinc(distance) * window).astype(np.float32)


def interpolated(samples: Complex, instants: NDArray[np.floating]) -> Complex:
    """Take samples at any instants, ascending; beyond either end there are zeros.

    Signals up to 0.45 cycles per sample keep 40 dB over the error, those up to 0.4 70 dB.

    Args:
        samples: complex64 [N].
        instants: in samples, float [M].

    Returns:
        complex64 [M].
    """
    padded = np.pad(samples, _HALF)
    beyond = 2 * _HALF - len(padded)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(padded, (0, max(beyond, 0))), 2 * _HALF
    )
    result = np.empty(len(instants), np.complex64)
    for start in range(0, len(instants), _BLOCK):
        part = instants[start : start + _BLOCK]
        whole = np.floor(part).astype(np.int64)
        phase = np.round((part - whole) * _PHASES).astype(np.int64)
        place = whole + 1
        inside = (place >= 0) & (place < len(windows))
        values = windows[np.clip(place, 0, len(windows) - 1)]
        result[start : start + _BLOCK] = inside * np.einsum("ij,ij->i", values, _filters()[phase])
    return result

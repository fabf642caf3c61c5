"""Detection of preambles in a capture, with their timing, carrier offset and waveform.

The first part of the preamble repeats every 16 samples: its correlation with itself is seen at any
carrier offset and through any channel (Schmidl and Cox, IEEE Transactions on Communications 1997),
and the correlation's phase is the offset. The second part is known: it gives the time, and names
the waveform.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from diffjscc.radio.captures import Capture
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.radio.sequences import LONG_LENGTH, SHORT, SHORT_LENGTH, long_part

Complex = NDArray[np.complex64]
Number = TypeVar("Number", np.float64, np.complex128)

# Of the first part alone: noise exceeds it with probability exp(-240 · 0.2²) = 7e-5 and then fails
# with the second part; a preamble has 0.5 ± 0.04 at 0 dB and 0.33 ± 0.05 at -3 dB.
THRESHOLD = 0.2
# Share of the second part in the energy of its place, which multipath divides among its paths. A
# tone, whose metric is 1, exceeds it at one of 1,000 places with 1000 · exp(-256 · 0.06) = 2e-4.
LONG_THRESHOLD = 0.06
# Of both, 240 · metric² + 256 · share: noise alone exceeds it with probability of about exp(-30).
EVIDENCE = 30.0
# An earlier path counts from this amplitude, relative to the strongest, on.
_FIRST_PATH = 0.4
_REACH = 16  # samples before the strongest path in which the first one is looked for

_CHUNK = 1 << 17
_PIECE = 1024  # a longer stretch above the threshold, such as a tone, is searched in pieces
_SLACK = 48  # samples by which the coarse time may be wrong


@dataclass(frozen=True)
class Detection:
    """A preamble that was found.

    Attributes:
        start: index of its first sample.
        fraction: part of a sample by which it begins later, -1/2 to 1/2.
        rate: carrier offset in radians per sample.
        waveform: name in `WAVEFORMS`.
        quality: share of its second part in the energy there, 0 to 1.
    """

    start: int
    fraction: float
    rate: float
    waveform: str
    quality: float


def self_correlation(samples: Complex) -> NDArray[np.float32]:
    """Compute the timing metric |Σ r_{n+16} r*_n| / Σ |r_n|² at every place with 256 samples.

    Args:
        samples: complex64 [N].

    Returns:
        float32 [N - 255], 0 to 1; 0 where there is nothing.
    """
    products = samples[SHORT:] * samples[:-SHORT].conj()
    energies = samples.real**2 + samples.imag**2
    span = SHORT_LENGTH - SHORT
    correlation = _moving_sum(products.astype(np.complex128), span)
    energy = _moving_sum(energies.astype(np.float64), span)
    mean = 0.5 * (energy[:-SHORT] + energy[SHORT:])
    # Differences of running sums are exact to a part of the whole sum.
    floor = 1e-11 * float(energies.sum(dtype=np.float64)) + 1e-30
    metric: NDArray[np.float32] = (np.abs(correlation) / np.maximum(mean, floor)).astype(np.float32)
    return metric


def carrier_rate(short: Complex) -> float:
    """Estimate the carrier offset from the preamble's first part, in radians per sample.

    Phases at growing lags: the shortest is unambiguous to ±π/16, longer ones are more exact.
    """
    rate, n = 0.0, np.arange(len(short))
    for lags in ((16,), (32, 48), (96, 112, 128, 144, 160)):
        turned = short * np.exp(-1j * rate * n)
        weights = np.array([lag * (len(short) - lag) for lag in lags], np.float64)
        phases = [np.angle(np.vdot(turned[:-lag], turned[lag:])) for lag in lags]
        rate += float(np.dot(weights, phases) / np.dot(weights, lags))
    return rate


def find_preambles(capture: Capture, begin: int = 0) -> Iterator[Detection]:
    """Find all preambles from sample `begin` on, in order; reads the capture in pieces."""
    last = -1
    for start in range(begin, capture.length - SHORT_LENGTH - LONG_LENGTH // 2, _CHUNK):
        count = min(_CHUNK, capture.length - start)
        samples = capture.read(start, count + SHORT_LENGTH - 1)
        if not samples.any():
            continue
        # Exact silence stays silent: a constant would resemble a periodic sequence.
        centred = np.where(samples == 0, 0, samples - samples[:count].mean())
        metric = self_correlation(centred)
        for first, peak in _peaks(metric):
            if start + peak <= last:
                continue
            found = _locate(capture, start + first, start + peak, float(metric[peak]))
            if found is not None and found.start > last:
                last = found.start + SHORT_LENGTH
                yield found


def _peaks(metric: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """List first place and peak of each stretch above the threshold, or piece of one."""
    above = np.flatnonzero(metric > THRESHOLD)
    if not len(above):
        return
    for run in np.split(above, np.flatnonzero(np.diff(above) > SHORT) + 1):
        for first in range(int(run[0]), int(run[-1]) + 1, _PIECE):
            piece = metric[first : min(first + _PIECE, int(run[-1]) + 1)]
            yield first, first + int(piece.argmax())


def _locate(capture: Capture, first: int, peak: int, metric: float) -> Detection | None:
    """Find the second part near a peak of the timing metric `metric`; None without one."""
    short = capture.read(peak, SHORT_LENGTH)
    rate = carrier_rate(short - short.mean())
    begin = min(first, peak - _SLACK) + SHORT_LENGTH
    count = peak + _SLACK + SHORT_LENGTH - begin + LONG_LENGTH
    samples = capture.read(begin, count)
    samples = samples * np.exp(-1j * rate * np.arange(count)).astype(np.complex64)
    energy = _moving_sum((np.abs(samples) ** 2).astype(np.float64), LONG_LENGTH)
    size = 1 << (count - 1).bit_length()
    spectrum = np.fft.fft(samples, size)
    best: tuple[float, str, NDArray[np.float64]] | None = None
    for name in WAVEFORMS:
        known = np.fft.fft(long_part(name), size)
        matches = np.abs(np.fft.ifft(spectrum * known.conj())[: len(energy)])
        shares = matches**2 / np.maximum(LONG_LENGTH * energy, 1e-30)
        quality = float(shares.max())
        if best is None or quality > best[0]:
            best = quality, name, matches
    assert best is not None
    quality, name, matches = best
    evidence = (SHORT_LENGTH - SHORT) * metric**2 + LONG_LENGTH * quality
    if quality < LONG_THRESHOLD or evidence < EVIDENCE:
        return None
    strongest = int(matches.argmax())
    near = matches[max(0, strongest - _REACH) : strongest + 1]
    path = strongest - (len(near) - 1) + int(np.argmax(near >= _FIRST_PATH * matches[strongest]))
    # The first path may be the foot of a peak between two samples: its top is within a sample.
    if path < strongest and matches[path + 1] > matches[path]:
        path += 1
    start = begin + path - SHORT_LENGTH
    return Detection(start, _fraction(matches, path), rate, name, quality)


def _fraction(values: NDArray[np.float64], peak: int) -> float:
    """Place of a parabola's maximum through three values, relative to `peak`."""
    if not 0 < peak < len(values) - 1:
        return 0.0
    before, top, after = (float(values[peak + i]) for i in (-1, 0, 1))
    curvature = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


def _moving_sum(values: NDArray[Number], span: int) -> NDArray[Number]:
    """Sum `span` successive values, at every place where they are."""
    total: NDArray[Number] = np.cumsum(values)
    total[span:] -= total[:-span].copy()
    return total[span - 1 :]

"""Estimation from known cells: carrier and clock offset, channel, noise.

Channel estimates at known rows (least squares) are smoothed over frequency and over time by Wiener
filters for delay and Doppler spreads of a few widths. Generalised cross-validation (Golub, Heath
and Wahba, Technometrics 1979) chooses the widths: nothing is assumed of the channel but that its
delays fit into the cyclic prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0

from diffjscc.radio.frame import Layout
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.radio.sequences import pilots
from diffjscc.radio.waveform import Waveform

Complex = NDArray[np.complex64]
Real = NDArray[np.float64]

# Doppler spread in cycles per period of the training rows.
_DOPPLERS = (0.0, 0.02, 0.08, 0.25)
# Widths of the windows in which the phase of rows is averaged, in rows; see `row_phases`.
_PHASE_WINDOWS = (64.0, 16.0, 4.0, 1.0, 0.3)
# Noise-to-signal ratio of the filters over frequency, low: they bias strong signals little.
_RIDGE = 0.02
_CLOCK = 50e-6  # largest relative offset of the sample clock
# Gain in log-likelihood from which on a clock offset is believed.
_CLOCK_GAIN = 8.0


@dataclass(frozen=True)
class ChannelEstimate:
    """Result of `estimate_channel`.

    Attributes:
        gain: channel at all bins, complex64 [rows, columns].
        noise_power: N0 per bin, from the residuals of known rows.
        delay_window: (first, last) delay in points that the filter over frequency passes.
        doppler: of the filter over time, cycles per training period.
    """

    gain: Complex
    noise_power: float
    delay_window: tuple[float, float]
    doppler: float


def delay_windows(form: Waveform) -> tuple[tuple[float, float], ...]:
    """List delay windows to choose from, in points; the last is the whole prefix."""
    return (-0.75, 0.75), (-2.0, form.prefix / 4), (-form.early, form.prefix - form.early)


@dataclass(frozen=True)
class FrequencyFilter:
    """Wiener filter over frequency, of a uniform delay profile: V diag(w) V^H.

    Attributes:
        basis: V, its eigenvectors, complex64 [columns, rank].
        weights: w, 0 to 1, float32 [rank].
    """

    basis: Complex
    weights: NDArray[np.float32]

    @property
    def trace(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    def __call__(self, channel: Complex) -> Complex:
        """Smooth channel estimates [rows, columns]."""
        smoothed = (channel @ self.basis.conj() * self.weights) @ self.basis.T
        return smoothed.astype(np.complex64)


@cache
def frequency_filter(name: str, window: tuple[float, float]) -> FrequencyFilter:
    """Compute the filter of a waveform for delays of (first, last) points."""
    form = WAVEFORMS[name]
    lag = (form.bins[:, None] - form.bins) / form.size
    low, high = window
    values, vectors = np.linalg.eigh(np.sinc(lag * (high - low)))
    kept = values > 0.1 * _RIDGE
    weights = values[kept] / (values[kept] + _RIDGE)
    middle = np.exp(-1j * np.pi * form.bins / form.size * (low + high))  # of the window
    basis = (middle[:, None] * vectors[:, kept]).astype(np.complex64)
    return FrequencyFilter(basis, weights.astype(np.float32))


def smooth_over_frequency(
    channel: Complex, form: Waveform
) -> tuple[Complex, tuple[float, float], float]:
    """Smooth channel estimates [rows, columns] by the filter that predicts best.

    Returns:
        Smoothed estimates, the delay window, and the noise power in `channel`.
    """
    best: tuple[float, Complex, tuple[float, float], float] | None = None
    for window in delay_windows(form):
        smoother = frequency_filter(form.name, window)
        smoothed = smoother(channel)
        residual = float(np.mean(np.abs(channel - smoothed) ** 2))
        free = 1 - smoother.trace / form.columns
        score = residual / free**2
        if best is None or score < best[0]:
            best = score, smoothed, window, residual / free
    assert best is not None
    return best[1:]


def estimate_channel(bins: Complex, layout: Layout) -> ChannelEstimate:
    """Estimate channel and noise from the training rows of bins [rows, columns]."""
    form, known = layout.waveform, layout.training_rows
    raw = bins[known] * form.spread(form.training[None]).conj()
    by_frequency, window, noise = smooth_over_frequency(raw, form)
    trace = frequency_filter(form.name, window).trace
    power = max(float(np.mean(np.abs(by_frequency) ** 2)), 1e-30)
    ratio = noise * trace / form.columns / power
    times = np.arange(layout.rows) / (form.training_period + 1)
    best: tuple[float, Real, float] | None = None
    for doppler in _DOPPLERS:
        covariance = j0(2 * np.pi * doppler * np.abs(times[:, None] - times[known]))
        at_known = covariance[known] + max(ratio, 1e-4) * np.eye(len(known))
        smoother = np.linalg.solve(at_known, covariance.T).T
        residual = np.mean(np.abs(by_frequency - smoother[known] @ by_frequency) ** 2)
        free = max(1 - float(np.trace(smoother[known])) / len(known), 1e-3)
        score = float(residual) / free**2
        if best is None or score < best[0]:
            best = score, smoother, doppler
    assert best is not None
    _, smoother, doppler = best
    gain = (smoother.astype(np.float32) @ by_frequency).astype(np.complex64)
    residual = float(np.mean(np.abs(raw - gain[known]) ** 2))
    spent = trace / form.columns * float(np.trace(smoother[known])) / len(known)
    return ChannelEstimate(gain, max(residual / (1 - spent), 1e-12 * power), window, doppler)


def residual_rate(bins: Complex, layout: Layout) -> float:
    """Estimate the carrier offset that is left, in radians per row, -π to π.

    The maximum of the periodogram of the rows' known cells, behind the channel that the first row
    shows.
    """
    form = layout.waveform
    training = form.spread(form.training[None])
    first, _, _ = smooth_over_frequency(bins[:1] * training.conj(), form)
    matched = bins * first.conj()
    rows = np.empty(layout.rows, np.complex128)
    rows[layout.training_rows] = (matched[layout.training_rows] * training.conj()).sum(axis=1)
    cells = form.despread(matched[layout.data_rows])[:, form.pilot_columns]
    known = pilots(len(layout.data_rows), form.pilots_per_row)
    rows[layout.data_rows] = (cells * known).sum(axis=1)
    size = 8 << (layout.rows - 1).bit_length()
    spectrum = np.abs(np.fft.fft(rows, size))
    peak = int(spectrum.argmax())
    before, top, after = (float(spectrum[(peak + i) % size]) for i in (-1, 0, 1))
    curvature = before - 2 * top + after
    place = peak + (0.5 * (before - after) / curvature if curvature < 0 else 0.0)
    return float((2 * np.pi * place / size + np.pi) % (2 * np.pi) - np.pi)


def clock_drift(bins: Complex, layout: Layout) -> float:
    """Estimate how much later every row comes than the clock says, in points per row.

    The likelihood of the training rows over a grid of drifts, behind the channel of their mean.
    """
    form, known = layout.waveform, layout.training_rows
    if len(known) < 2:
        return 0.0
    raw = bins[known] * form.spread(form.training[None]).conj()
    # Where the sampled spectrum overlaps itself, a delay is more than a phase.
    raw = raw * form.delayed_bins
    centre = known - known.mean()
    limit = _CLOCK * form.row_points
    steps = max(3, int(np.ceil(limit * np.ptp(known) / 0.1)))
    drifts = np.linspace(-limit, limit, 2 * steps + 1)
    smoother = frequency_filter(form.name, delay_windows(form)[-1])
    turns = np.exp(2j * np.pi * np.outer(drifts, centre)[..., None] * form.bins / form.size)
    means = (turns * raw).mean(axis=1).astype(np.complex64) @ smoother.basis.conj()
    likelihood = len(known) * np.abs(means) ** 2 @ smoother.weights
    peak = int(likelihood.argmax())
    spent = len(known) * int(form.delayed_bins.sum()) - smoother.trace
    noise = max(float(np.sum(np.abs(raw) ** 2) - likelihood[peak]) / spent, 1e-30)
    if likelihood[peak] - likelihood[steps] < _CLOCK_GAIN * noise or peak in (0, 2 * steps):
        return 0.0
    before, top, after = likelihood[peak - 1 : peak + 2]
    shift = 0.5 * (before - after) / (before - 2 * top + after)
    return float(drifts[peak] + shift * (drifts[1] - drifts[0]))


def row_phases(values: Complex, gain: Complex, layout: Layout) -> Complex:
    """Estimate the phase of each data row against the channel estimate, unit modulus [data rows].

    Args:
        values: cells of the data rows, complex64 [data rows, columns].
        gain: channel at these cells.
        layout: of the frame.
    """
    form = layout.waveform
    known = pilots(len(layout.data_rows), form.pilots_per_row)
    expected = gain[:, form.pilot_columns] * known
    energy = np.maximum(np.sum(np.abs(expected) ** 2, axis=1), 1e-30)
    factor = np.sum(values[:, form.pilot_columns] * expected.conj(), axis=1) / energy
    best, score = np.ones(len(factor), np.complex128), float(np.mean(np.abs(factor - 1) ** 2))
    count = len(factor)
    for width in _PHASE_WINDOWS:
        reach = min(int(4 * width) + 1, count - 1)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
        inside = slice(reach, reach + count)
        weight = np.convolve(np.ones(count), kernel)[inside]
        smoothed = np.convolve(factor, kernel)[inside] / weight
        free = max(1 - float(np.mean(1 / weight)), 1e-3)
        found = float(np.mean(np.abs(factor - smoothed) ** 2)) / free**2
        if found < score:
            best, score = smoothed, found
    phases: Complex = np.exp(1j * np.angle(best)).astype(np.complex64)
    return phases

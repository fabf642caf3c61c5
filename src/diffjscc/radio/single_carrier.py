"""Single carrier with root-raised-cosine pulses, equalised in frequency."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from diffjscc.radio.interpolation import interpolated
from diffjscc.radio.waveform import Waveform

Complex = NDArray[np.complex64]


@dataclass(frozen=True)
class SingleCarrier(Waveform):
    """Root-raised-cosine pulses at two samples per symbol, in blocks with a cyclic prefix.

    Attributes:
        roll_off: excess bandwidth β, 0 to 1.
        span: half length of the pulse, in symbols.
    """

    roll_off: float
    span: int = 10

    samples_per_point = 2

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """All bins of the symbol rate."""
        return np.arange(-self.size // 2, self.size // 2)

    @property
    def delayed_bins(self) -> NDArray[np.bool_]:
        """Bins below the roll-off."""
        return np.abs(self.bins) < self.size / 2 * (1 - self.roll_off)

    @property
    def delay_tolerance(self) -> float:
        """See `Waveform.delay_tolerance`; at the roll-off it makes up for none."""
        return 0.05

    def spread(self, cells: Complex) -> Complex:
        """Transform symbols in time to bins."""
        bins: Complex = np.fft.fft(cells, norm="ortho")[:, self.bins].astype(np.complex64)
        return bins

    def despread(self, bins: Complex) -> Complex:
        """Transform bins to symbols in time."""
        spectrum = np.empty(bins.shape, np.complex64)
        spectrum[:, self.bins] = bins
        symbols: Complex = np.fft.ifft(spectrum, norm="ortho").astype(np.complex64)
        return symbols

    def modulate(self, cells: Complex) -> Complex:
        """See `Waveform.modulate`; mean power 1/2 per sample, the last pulses' tails are cut."""
        symbols = np.concatenate([cells[:, -self.prefix :], cells], axis=1).ravel()
        impulses = np.zeros(2 * len(symbols), np.complex64)
        impulses[::2] = symbols
        shaped = oaconvolve(impulses, self.pulse())
        centred: Complex = shaped[2 * self.span :][: len(impulses)].astype(np.complex64)
        return centred

    def demodulate(self, samples: Complex, rows: int, fraction: float, drift: float) -> Complex:
        """See `Waveform.demodulate`; interpolation, and the matched filter."""
        count = rows * self.row_samples
        instants = np.arange(count) * (1 + drift / self.row_points) + fraction
        matched = oaconvolve(interpolated(samples, instants), self.pulse())[2 * self.span :]
        starts = np.arange(rows) * self.row_points + self.prefix - self.early
        return self._windows(matched[:count:2].astype(np.complex64), starts)

    def equalised(
        self, bins: Complex, channel: Complex, noise_power: float
    ) -> tuple[Complex, Complex]:
        """Equalise in frequency for the least mean squared error.

        A symbol's estimate is μ times itself and interference and noise of power μ(1 - μ), where
        μ = mean of |H|²/(|H|² + N0) over a row; all is scaled so that this power is N0.
        """
        power = np.abs(channel) ** 2
        weight = power / (power + noise_power)
        share = weight.mean(axis=1, keepdims=True)
        scale = np.sqrt(noise_power / np.maximum(share * (1 - share), 1e-12))
        symbols = self.despread(bins * channel.conj() / (power + noise_power))
        gain = np.broadcast_to(scale * share, bins.shape).astype(np.complex64)
        return (symbols * scale).astype(np.complex64), gain

    def pulse(self) -> NDArray[np.float64]:
        """Compute the root-raised-cosine pulse of unit energy, [4·span + 1]."""
        t = np.arange(-2 * self.span, 2 * self.span + 1) / 2
        beta = self.roll_off
        # The two singular points, at 0 and ±1/(4β), are approached and not met.
        t = np.where(np.abs(t) < 1e-6, 1e-6, t)
        t = np.where(np.abs(np.abs(4 * beta * t) - 1) < 1e-6, t * (1 + 1e-5), t)
        above = np.sin(np.pi * t * (1 - beta)) + 4 * beta * t * np.cos(np.pi * t * (1 + beta))
        pulse: NDArray[np.float64] = above / (np.pi * t * (1 - (4 * beta * t) ** 2)) / np.sqrt(2)
        return pulse

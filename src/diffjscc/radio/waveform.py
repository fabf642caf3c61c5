"""Waveforms: rows of cells to samples and back.

A frame's cells, one complex number each, stand in rows. A row of CP-OFDM is one OFDM symbol and its
cells are subcarriers; a row of the single carrier is a block of symbols in time behind a cyclic
prefix, so that both are equalised in frequency (Falconer et al., IEEE Communications Magazine
2002). A cell has unit energy on the air: white noise of power N0 per sample is noise of power N0
per cell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from diffjscc.radio.interpolation import interpolated
from diffjscc.radio.sequences import chu

Complex = NDArray[np.complex64]


@dataclass(frozen=True)
class Waveform(ABC):
    """Rows of cells on the air: the common part of all waveforms.

    Attributes:
        name: as users choose it.
        size: points N of a row's Fourier transform.
        prefix: length of the cyclic prefix, in points.
        training_period: data rows between two rows that are known as a whole.
        pilots_per_row: known cells of a data row, for its phase.
    """

    name: str
    size: int
    prefix: int
    training_period: int
    pilots_per_row: int

    samples_per_point = 1

    @property
    @abstractmethod
    def bins(self) -> NDArray[np.int64]:
        """Used bins of the transform, from -N/2 to N/2 - 1, int64 [columns]."""

    @property
    def columns(self) -> int:
        """Cells of a row."""
        return len(self.bins)

    @property
    def row_points(self) -> int:
        """Points of a row on the air, its prefix included."""
        return self.size + self.prefix

    @property
    def row_samples(self) -> int:
        """Samples of a row."""
        return self.row_points * self.samples_per_point

    @property
    def early(self) -> int:
        """Points by which a row's window begins inside the prefix, against late timing."""
        return self.prefix // 4

    @property
    def delayed_bins(self) -> NDArray[np.bool_]:
        """Bins on which a delay is a phase and nothing else, bool [columns]."""
        return np.ones(self.columns, bool)

    @property
    def delay_tolerance(self) -> float:
        """Delay in points that equalisation makes up for."""
        return self.early / 2

    @cached_property
    def training(self) -> Complex:
        """Cells of a known row, complex64 [columns], of constant modulus."""
        return chu(self.columns)

    @cached_property
    def pilot_columns(self) -> NDArray[np.int64]:
        """Columns of the known cells of a data row."""
        step = self.columns / self.pilots_per_row
        return (np.arange(self.pilots_per_row) * step + step / 2).astype(np.int64)

    @cached_property
    def data_columns(self) -> NDArray[np.int64]:
        """The other columns."""
        return np.setdiff1d(np.arange(self.columns), self.pilot_columns)

    @abstractmethod
    def spread(self, cells: Complex) -> Complex:
        """Transform cells [rows, columns] to their bins [rows, columns], unitary."""

    @abstractmethod
    def despread(self, bins: Complex) -> Complex:
        """Invert `spread`."""

    @abstractmethod
    def modulate(self, cells: Complex) -> Complex:
        """Transform cells [rows, columns] to samples [rows · row_samples]."""

    @abstractmethod
    def demodulate(self, samples: Complex, rows: int, fraction: float, drift: float) -> Complex:
        """Transform samples to bins, complex64 [rows, columns].

        Args:
            samples: of a frame's rows, without carrier offset; those that are missing are zeros.
            rows: how many.
            fraction: part of a sample by which the first row begins late, -1/2 to 1/2.
            drift: points by which each row comes later than the one before it should.
        """

    @abstractmethod
    def equalised(
        self, bins: Complex, channel: Complex, noise_power: float
    ) -> tuple[Complex, Complex]:
        """Undo what cells do to each other; returns cells and their gains, [rows, columns].

        Args:
            bins: received, complex64 [rows, columns].
            channel: estimate of the channel at them, same shape.
            noise_power: N0 per bin; also that of the cells that are returned.
        """

    def _windows(self, points: Complex, starts: NDArray[np.int64]) -> Complex:
        """Transform windows of N points, and undo the delay of their early beginning.

        Args:
            points: at one point per symbol; windows beyond the end read zeros.
            starts: of each window, int64 [rows].
        """
        beyond = int(starts[-1]) + self.size - len(points)
        if beyond > 0:
            points = np.concatenate([points, np.zeros(beyond, np.complex64)])
        rows = np.lib.stride_tricks.sliding_window_view(points, self.size)[starts]
        spectrum = np.fft.fft(rows, norm="ortho")[:, self.bins]
        turned: Complex = (spectrum * self._turn).astype(np.complex64)
        return turned

    @cached_property
    def _turn(self) -> Complex:
        turn: Complex = np.exp(2j * np.pi * self.bins * self.early / self.size)
        return turn


@dataclass(frozen=True)
class OFDM(Waveform):
    """OFDM with a cyclic prefix; the carrier's own bin and the band's edges stay empty.

    Attributes:
        half: used subcarriers on either side of the carrier.
    """

    half: int

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """Subcarriers -half … -1, 1 … half."""
        return np.concatenate([np.arange(-self.half, 0), np.arange(1, self.half + 1)])

    def spread(self, cells: Complex) -> Complex:
        """Cells are bins."""
        return cells

    def despread(self, bins: Complex) -> Complex:
        """Bins are cells."""
        return bins

    def modulate(self, cells: Complex) -> Complex:
        """See `Waveform.modulate`; mean power columns/N per sample."""
        spectrum = np.zeros((len(cells), self.size), np.complex64)
        spectrum[:, self.bins] = cells
        rows = np.fft.ifft(spectrum, norm="ortho")
        return np.concatenate([rows[:, -self.prefix :], rows], axis=1).astype(np.complex64).ravel()

    def demodulate(self, samples: Complex, rows: int, fraction: float, drift: float) -> Complex:
        """See `Waveform.demodulate`; the channel estimate absorbs fractions of a sample."""
        del fraction
        late = drift * np.arange(rows)
        whole = np.round(late).astype(np.int64)
        starts = np.arange(rows) * self.row_samples + self.prefix - self.early + whole
        return advanced(self._windows(samples, starts), late - whole, self)

    def equalised(
        self, bins: Complex, channel: Complex, noise_power: float
    ) -> tuple[Complex, Complex]:
        """Subcarriers are orthogonal: nothing is to undo."""
        del noise_power
        return bins, channel


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


WAVEFORMS: dict[str, Waveform] = {
    form.name: form
    for form in (
        OFDM("ofdm-64", 64, 16, training_period=16, pilots_per_row=4, half=26),
        OFDM("ofdm-1024", 1024, 72, training_period=8, pilots_per_row=16, half=416),
        SingleCarrier("single-carrier", 64, 16, 16, 4, roll_off=0.25),
    )
}
"""Waveforms by name; 64 points with 52 used and a prefix of 16 are those of IEEE 802.11."""


def advanced(bins: Complex, delays: NDArray[np.floating], form: Waveform) -> Complex:
    """Undo delays of rows, in points, on bins [rows, columns]."""
    turn = np.exp(2j * np.pi / form.size * np.outer(delays, form.bins))
    earlier: Complex = (bins * turn).astype(np.complex64)
    return earlier


def papr_db(samples: Complex) -> float:
    """Compute the peak-to-average power ratio of samples in dB."""
    power = np.abs(samples) ** 2
    return float(10 * np.log10(power.max() / power.mean()))

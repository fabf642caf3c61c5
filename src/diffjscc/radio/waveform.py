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


def advanced(bins: Complex, delays: NDArray[np.floating], form: Waveform) -> Complex:
    """Undo delays of rows, in points, on bins [rows, columns]."""
    turn = np.exp(2j * np.pi / form.size * np.outer(delays, form.bins))
    earlier: Complex = (bins * turn).astype(np.complex64)
    return earlier

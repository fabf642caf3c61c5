"""OFDM with a cyclic prefix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diffjscc.radio.waveform import Waveform, advanced

Complex = NDArray[np.complex64]


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

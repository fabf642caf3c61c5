"""Frame: preamble, header, pilots and payload, and the places of their cells.

    preamble | training row | data rows … | training row | data rows … | training row

The header takes the first cells of the data rows, the payload's symbols the next ones, interleaved
over all of them, and padding the rest of the last row. In each data row some cells are pilots.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diffjscc.radio import sequences
from diffjscc.radio.header import Header, header_length
from diffjscc.radio.waveform import Waveform

Complex = NDArray[np.complex64]


@dataclass(frozen=True)
class Layout:
    """Places of all cells of a frame.

    Attributes:
        waveform: the waveform.
        symbols: K, payload symbols.
        held: rows that a capture holds, the first ones; None: all.
    """

    waveform: Waveform
    symbols: int
    held: int | None = None

    @property
    def _all_data_rows(self) -> int:
        """Rows of header, payload and padding in the whole frame."""
        return -(-(header_length() + self.symbols) // len(self.waveform.data_columns))

    @cached_property
    def _all_training_rows(self) -> NDArray[np.int64]:
        period = self.waveform.training_period
        full = -(-self._all_data_rows // period)
        return np.append(np.arange(full) * (period + 1), self._all_data_rows + full)

    @property
    def rows(self) -> int:
        """Rows held."""
        return self.all_rows if self.held is None else min(self.held, self.all_rows)

    @property
    def all_rows(self) -> int:
        """Rows of the whole frame."""
        return int(self._all_training_rows[-1]) + 1

    @cached_property
    def training_rows(self) -> NDArray[np.int64]:
        """Rows that are known as a whole: the first, one after every period, and the last."""
        known = self._all_training_rows
        return known[known < self.rows]

    @cached_property
    def data_rows(self) -> NDArray[np.int64]:
        """The other rows' numbers."""
        return np.setdiff1d(np.arange(self.rows), self.training_rows)

    @property
    def samples(self) -> int:
        """Length of the whole frame in samples, preamble included."""
        return sequences.PREAMBLE_LENGTH + self.all_rows * self.waveform.row_samples

    def header_cells(self, cells: Complex) -> Complex:
        """Take the header's cells of data rows [data rows, columns]."""
        return self._data(cells)[: header_length()]

    def payload_cells(self, cells: Complex) -> Complex:
        """Take the payload's K symbols, in their own order; zeros beyond the rows held."""
        start = header_length()
        taken = self._data(cells)[start : start + self.symbols]
        taken = np.pad(taken, (0, self.symbols - len(taken)))
        return taken[sequences.interleaved(self.symbols)]

    def _data(self, cells: Complex) -> Complex:
        data: Complex = cells[:, self.waveform.data_columns].ravel()
        return data

    def uses_by_kind(self, codec_padding: int = 0) -> dict[str, int]:
        """Count channel uses by purpose; they add up to `samples` / `samples_per_point`.

        A use is one point, 1/(points per second) at the waveform's points: the bins that OFDM
        leaves empty are `guard`.

        Args:
            codec_padding: payload symbols that are the codec's own padding.
        """
        form, rows, data_rows = self.waveform, self.all_rows, self._all_data_rows
        pilots = len(self._all_training_rows) * form.columns + data_rows * form.pilots_per_row
        data = data_rows * len(form.data_columns)
        return {
            "preamble": sequences.PREAMBLE_LENGTH // form.samples_per_point,
            "header": header_length(),
            "pilots": pilots,
            "cyclic prefix": rows * form.prefix,
            "guard": rows * (form.size - form.columns),
            "image": self.symbols - codec_padding,
            "padding": data - header_length() - self.symbols + codec_padding,
        }


def header_layout(waveform: Waveform) -> Layout:
    """Return the rows of any frame from its first to the one in which its header ends."""
    period, per_row = waveform.training_period, len(waveform.data_columns)
    data_rows = -(-header_length() // per_row)
    # So many symbols that the frame's last row, which is known, is none of these.
    return Layout(waveform, 2 * period * per_row, data_rows + -(-data_rows // period))


def compose(waveform: Waveform, header: Header, symbols: Complex) -> Complex:
    """Build the cells of a frame, complex64 [rows, columns].

    Args:
        waveform: the waveform.
        header: describes the payload.
        symbols: complex64 [K], of unit mean power.

    Raises:
        ValueError: K is not the header's.
    """
    if len(symbols) != header.symbols:
        raise ValueError(f"{len(symbols)} symbols, but the header says {header.symbols}")
    layout = Layout(waveform, len(symbols))
    payload = np.empty(len(symbols), np.complex64)
    payload[sequences.interleaved(len(symbols))] = symbols
    count = len(layout.data_rows)
    room = count * len(waveform.data_columns)
    used = [header.modulate(), payload]
    data = np.concatenate([*used, sequences.padding(room - sum(map(len, used)))])
    rows = np.empty((count, waveform.columns), np.complex64)
    rows[:, waveform.data_columns] = data.reshape(count, -1)
    rows[:, waveform.pilot_columns] = sequences.pilots(count, waveform.pilots_per_row)
    cells = np.empty((layout.rows, waveform.columns), np.complex64)
    cells[layout.training_rows] = waveform.training
    cells[layout.data_rows] = rows
    return cells


def frame_samples(waveform: Waveform, header: Header, symbols: Complex) -> Complex:
    """Build a frame's samples, complex64 [Layout.samples]: preamble and rows; see `compose`."""
    rows = waveform.modulate(compose(waveform, header, symbols))
    return np.concatenate([sequences.preamble(waveform.name), rows])

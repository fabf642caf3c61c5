"""Receiver: from a capture to payload symbols and channel state, without any side information.

For each preamble: the header's rows give channel and noise, with them the header is read, and with
it the frame's length; then all rows are read again, and offsets, channel and noise estimated anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from diffjscc.radio import estimation
from diffjscc.radio.captures import Capture
from diffjscc.radio.frame import Layout, header_layout
from diffjscc.radio.header import Header, demodulate_header
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.radio.sequences import PREAMBLE_LENGTH, pilots
from diffjscc.radio.synchronisation import Detection, find_preambles
from diffjscc.radio.waveform import advanced
from diffjscc.symbols import ChannelState, Received

Complex = NDArray[np.complex64]

# Gain of symbols that the capture does not reach: they count for nothing.
_ABSENT = 1e-6


@dataclass(frozen=True)
class Cells:
    """Cells of a frame's data rows, as observed.

    Attributes:
        values: gain · sent + noise, complex64 [data rows, columns], without carrier offset.
        gain: complex64, same shape.
        noise_power: N0 per cell.
        bins: of all rows, before equalisation, complex64 [rows, columns].
        channel: estimate at all bins.
        rate: carrier offset in radians per sample.
        drift: of the sample clock, in points per row.
    """

    values: Complex
    gain: Complex
    noise_power: float
    bins: Complex
    channel: estimation.ChannelEstimate
    rate: float
    drift: float


@dataclass(frozen=True)
class FrameReport:
    """Estimates of one frame.

    Attributes:
        start: index of the frame's first sample.
        samples: length of the frame.
        waveform: name.
        carrier_offset: in cycles per sample.
        clock_offset_ppm: by which the receiver's sample period is longer than the transmitter's.
        snr_db: mean Es/N0 of the payload.
        effective_snr_db: SNR after equalisation for the least mean squared error.
        delay_window: in points, of the channel estimate.
        doppler: in cycles per period of training rows, of the channel estimate.
        quality: of the detection, 0 to 1.
        present: share of the payload that the capture holds, 0 to 1.
    """

    start: int
    samples: int
    waveform: str
    carrier_offset: float
    clock_offset_ppm: float
    snr_db: float
    effective_snr_db: float
    delay_window: tuple[float, float]
    doppler: float
    quality: float
    present: float


@dataclass(frozen=True)
class ReceivedFrame:
    """A frame whose header was read.

    Attributes:
        header: what it says.
        received: one image's symbols with the state of each, gain [1, K] of mean power 1.
        report: what was estimated.
        cells: for drawings.
    """

    header: Header
    received: Received
    report: FrameReport
    cells: Cells


@dataclass(frozen=True)
class LostFrame:
    """A preamble behind which no payload was found.

    Attributes:
        start: index of its first sample.
        waveform: name.
        reason: in words.
    """

    start: int
    waveform: str
    reason: str


def receive_frames(capture: Capture, begin: int = 0) -> Iterator[ReceivedFrame | LostFrame]:
    """Find and demodulate all frames of a capture, in order."""
    end = begin
    for found in find_preambles(capture, begin):
        if found.start < end:
            continue  # within a frame that was read: data that resembles a preamble
        frame = receive_frame(capture, found)
        yield frame
        if isinstance(frame, ReceivedFrame):
            end = frame.report.start + frame.report.samples - PREAMBLE_LENGTH // 2


def receive_frame(capture: Capture, found: Detection) -> ReceivedFrame | LostFrame:
    """Demodulate the frame behind a preamble."""
    form = WAVEFORMS[found.waveform]
    first = header_layout(form)
    if _rows_held(capture, found, first) < first.rows:
        return LostFrame(found.start, form.name, "the capture ends before the frame's header does")
    cells = observe(capture, found, first, found.rate, 0.0)
    try:
        header = demodulate_header(
            first.header_cells(cells.values), first.header_cells(cells.gain), cells.noise_power
        )
    except ValueError as error:
        return LostFrame(found.start, form.name, str(error))
    if header is None:
        reason = "its header could not be decoded: too much noise or interference"
        return LostFrame(found.start, form.name, reason)
    layout = Layout(form, header.symbols)
    held = _rows_held(capture, found, layout)
    if held < layout.all_rows:
        layout = replace(layout, held=held)
    known = cells.drift
    cells = observe(capture, found, layout, cells.rate, known)
    if abs(cells.drift - known) * layout.rows > form.delay_tolerance:
        cells = observe(capture, found, layout, cells.rate, cells.drift)
    return _finish(found, header, layout, cells)


def observe(capture: Capture, found: Detection, layout: Layout, rate: float, drift: float) -> Cells:
    """Estimate offsets, channel and noise of a frame's rows, and equalise what must be.

    Args:
        capture: samples.
        found: the preamble.
        layout: rows to read.
        rate: carrier offset known so far, in radians per sample.
        drift: of the sample clock, known so far, in points per row.
    """
    form = layout.waveform
    # A row more: drifts may take the last windows beyond their end.
    count = (layout.rows + 1) * form.row_samples
    samples = capture.read(found.start + PREAMBLE_LENGTH, count) * _turns(-rate, count)
    bins = form.demodulate(samples, layout.rows, found.fraction, drift)
    slow = estimation.residual_rate(bins, layout)
    bins = bins * _turns(-slow, layout.rows)[:, None]
    more = estimation.clock_drift(bins, layout)
    bins = advanced(bins, more * np.arange(layout.rows), form)
    channel = estimation.estimate_channel(bins, layout)
    data = layout.data_rows
    values, gain = form.equalised(bins[data], channel.gain[data], channel.noise_power)
    values = values * estimation.row_phases(values, gain, layout).conj()[:, None]
    total = rate + slow / form.row_samples
    return Cells(values, gain, channel.noise_power, bins, channel, total, drift + more)


def _finish(
    found: Detection, header: Header, layout: Layout, cells: Cells
) -> ReceivedFrame | LostFrame:
    """Take payload and noise power of a frame's cells."""
    factor, noise_power = _aided(header, layout, cells)
    values, gain = layout.payload_cells(cells.values), layout.payload_cells(cells.gain) * factor
    present = gain != 0
    if not present.any():
        reason = "the capture ends behind the frame's header, before its payload"
        return LostFrame(found.start, layout.waveform.name, reason)
    power = float(np.mean(np.abs(gain[present]) ** 2))
    scale = 1 / np.sqrt(power)
    gain = np.where(present, gain * scale, _ABSENT).astype(np.complex64)
    snr_db = float(10 * np.log10(power / noise_power))
    state = ChannelState(torch.from_numpy(gain)[None], torch.tensor([snr_db]))
    form = layout.waveform
    report = FrameReport(
        start=found.start,
        samples=layout.samples,
        waveform=form.name,
        carrier_offset=cells.rate / (2 * np.pi),
        clock_offset_ppm=-1e6 * cells.drift / form.row_points,
        snr_db=snr_db,
        effective_snr_db=float(state.snr_db[0]),
        delay_window=cells.channel.delay_window,
        doppler=cells.channel.doppler,
        quality=found.quality,
        present=float(present.mean()),
    )
    size, sent = (header.height, header.width), torch.from_numpy(values * scale)[None]
    received = Received(sent.to(torch.complex64), size, header.rate, state)
    return ReceivedFrame(header, received, report, cells)


def _aided(header: Header, layout: Layout, cells: Cells) -> tuple[complex, float]:
    """Estimate a factor on the gain, and N0, from the header's and the pilots' cells.

    The channel estimate does not know these cells: N0 contains its errors, as the payload's noise
    does.
    """
    form = layout.waveform
    columns = form.pilot_columns
    more = pilots(len(layout.data_rows), form.pilots_per_row) * cells.gain[:, columns]
    expected = np.append(layout.header_cells(cells.gain) * header.modulate(), more)
    observed = np.append(layout.header_cells(cells.values), cells.values[:, columns])
    factor = np.vdot(expected, observed) / max(float(np.vdot(expected, expected).real), 1e-30)
    errors = np.abs(observed - factor * expected) ** 2
    return complex(factor), max(float(errors.mean()), 1e-20)


def _rows_held(capture: Capture, found: Detection, layout: Layout) -> int:
    """Count the rows of a frame that the capture holds to their end, up to half a prefix."""
    form = layout.waveform
    beyond = capture.length - found.start - PREAMBLE_LENGTH + form.prefix // 2
    return min(layout.rows, beyond // form.row_samples)


def _turns(rate: float, count: int) -> Complex:
    """Compute exp(j·rate·n), complex64 [count]."""
    turns: Complex = np.exp(1j * rate * np.arange(count)).astype(np.complex64)
    return turns

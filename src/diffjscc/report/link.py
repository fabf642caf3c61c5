"""Figure of a radio link: timing metric, spectrum, channel estimate, constellations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import welch

from diffjscc.data.files import atomic_write
from diffjscc.radio.captures import Capture
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.radio.receiver import ReceivedFrame
from diffjscc.radio.synchronisation import THRESHOLD, self_correlation

_AROUND = 600  # samples around the preamble
_MOST_POINTS = 4000


def save_link_figure(
    frame: ReceivedFrame, capture: Capture, sample_rate: float, path: Path
) -> None:
    """Draw a received frame.

    Args:
        frame: the frame.
        capture: where it was found.
        sample_rate: in Hz.
        path: of the figure; its suffix decides the format.

    Raises:
        OSError: it cannot be written.
        ValueError: matplotlib does not know the suffix.
    """
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    axes = figure.subplots(3, 2)
    report = frame.report
    figure.suptitle(
        f"frame {frame.header.number} at sample {report.start:,}, {report.waveform}: "
        f"{report.snr_db:.1f} dB, carrier {report.carrier_offset * sample_rate:+.0f} Hz, "
        f"clock {report.clock_offset_ppm:+.1f} ppm"
    )
    _timing(axes[0, 0], frame, capture)
    _spectrum(axes[0, 1], frame, capture, sample_rate)
    _channel(axes[1, 0], frame)
    _channel_phase(axes[1, 1], frame)
    values, gain = frame.received.values[0].numpy(), frame.received.state.gain[0].numpy()
    noise = float(frame.received.state.noise_power[0])
    power = np.abs(gain) ** 2
    _constellation(axes[2, 0], values, "payload before equalisation")
    _constellation(axes[2, 1], values * gain.conj() / (power + noise), "after equalisation (MMSE)")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _timing(axes: Axes, frame: ReceivedFrame, capture: Capture) -> None:
    begin = frame.report.start - _AROUND
    samples = capture.read(begin, 2 * _AROUND + 256)
    metric = self_correlation(np.where(samples == 0, 0, samples - samples.mean()))
    axes.plot(begin + np.arange(len(metric)), metric)
    axes.axhline(THRESHOLD, color="0.6", linestyle=":", label="threshold")
    axes.axvline(frame.report.start, color="C1", label="frame")
    axes.set(title="timing metric", xlabel="sample", ylim=(0, 1.05))
    axes.legend()


def _spectrum(axes: Axes, frame: ReceivedFrame, capture: Capture, sample_rate: float) -> None:
    samples = capture.read(frame.report.start, min(frame.report.samples, 1 << 20))
    length = min(512, len(samples))
    frequency, density = welch(
        samples, sample_rate, nperseg=length, return_onesided=False, detrend=False
    )
    order = np.argsort(frequency)
    level = 10 * np.log10(np.maximum(density[order], 1e-30))
    axes.plot(frequency[order] / 1e3, level - level.max())
    axes.set(title="spectrum as received", xlabel="kHz", ylabel="dB")


def _channel(axes: Axes, frame: ReceivedFrame) -> None:
    form = WAVEFORMS[frame.report.waveform]
    power = np.abs(frame.cells.channel.gain) ** 2
    level = 10 * np.log10(np.maximum(power / power.mean(), 1e-6))
    for place, name in ((0, "first row"), (len(level) // 2, "middle"), (-1, "last row")):
        axes.plot(form.bins, level[place], label=name)
    axes.set(title="channel estimate", xlabel="bin", ylabel="dB")
    axes.legend()


def _channel_phase(axes: Axes, frame: ReceivedFrame) -> None:
    form = WAVEFORMS[frame.report.waveform]
    phase = np.unwrap(np.angle(frame.cells.channel.gain[0]))
    axes.plot(form.bins, phase)
    axes.set(title="its phase, first row", xlabel="bin", ylabel="rad")


def _constellation(axes: Axes, values: np.ndarray, title: str) -> None:
    shown = values[:: max(1, len(values) // _MOST_POINTS)]
    axes.plot(shown.real, shown.imag, ".", markersize=2, alpha=0.4)
    axes.set(title=title, aspect="equal")

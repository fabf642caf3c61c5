"""Frames of random symbols on the air, for tests of the radio."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from diffjscc.radio.captures import Samples
from diffjscc.radio.frame import frame_samples
from diffjscc.radio.front_end import white_noise
from diffjscc.radio.header import Header
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.radio.receiver import LostFrame, ReceivedFrame, receive_frames

Complex = NDArray[np.complex64]
Air = Callable[[Complex, np.random.Generator], Complex]
BEFORE, AFTER = 700, 300


def random_symbols(count: int, seed: int = 0) -> Complex:
    """Gaussian symbols of unit mean power."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((count, 2)).astype(np.float32).view(np.complex64)[:, 0]
    return values / np.sqrt(np.mean(np.abs(values) ** 2))


def header_of(symbols: int, number: int = 0) -> Header:
    return Header(0, "0123456789ab", Fraction(1, 16), 128, 128, symbols, 5.0, number)


def on_air(
    waveform: str, symbols: Complex, snr_db: float, air: Air | None = None, seed: int = 0
) -> Complex:
    """One frame within silence, behind `air`, in noise."""
    random = np.random.default_rng(seed)
    sent = frame_samples(WAVEFORMS[waveform], header_of(len(symbols), seed), symbols)
    samples = np.pad(sent, (BEFORE, AFTER))
    if air is not None:
        samples = air(samples, random)
    return white_noise(samples, 10 ** (-snr_db / 10), random)


def frames_in(samples: Complex) -> list[ReceivedFrame | LostFrame]:
    return list(receive_frames(Samples(samples)))


def only_frame(samples: Complex) -> ReceivedFrame:
    """The one frame in samples."""
    (frame,) = frames_in(samples)
    assert isinstance(frame, ReceivedFrame), frame
    return frame


def effective_snr_db(frame: ReceivedFrame, sent: Complex) -> tuple[float, float]:
    """SNR after MMSE equalisation: measured on the sent symbols, and as the state says."""
    values, state = frame.received.values[0].numpy(), frame.received.state
    gain, noise = state.gain[0].numpy(), float(state.noise_power[0])
    power = np.abs(gain) ** 2
    mean = float(np.mean(power / (power + noise)))
    error = float(np.mean(np.abs(values * gain.conj() / (power + noise) - sent) ** 2))
    return 10 * np.log10((1 - error) / error), 10 * np.log10(mean / (1 - mean))

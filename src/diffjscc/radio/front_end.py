"""Impairments of radio front ends, each a function of samples; none is applied by default.

Samples are complex64 [N]. Offsets are relative to the sample rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffjscc.radio.interpolation import interpolated

Complex = NDArray[np.complex64]


def carrier_offset(samples: Complex, offset: float, phase: float = 0.0) -> Complex:
    """Turn samples by exp(j(2π·offset·n + phase)), the offset in cycles per sample."""
    turns = 2 * np.pi * ((offset * np.arange(len(samples))) % 1) + phase
    turned: Complex = (samples * np.exp(1j * turns)).astype(np.complex64)
    return turned


def clock_offset(samples: Complex, ppm: float) -> Complex:
    """Sample at instants n·(1 + ppm·10⁻⁶), see `interpolation`.

    Raises:
        ValueError: an offset beyond ±1000 ppm.
    """
    if not abs(ppm) <= 1000:
        raise ValueError(f"ppm is {ppm}; clock offsets are within ±1000 parts per million")
    step = 1 + ppm * 1e-6
    count = int((len(samples) - 1) / step) + 1 if len(samples) else 0
    return interpolated(samples, np.arange(count) * step)


def timing_offset(samples: Complex, delay: float) -> Complex:
    """Delay samples by a number of samples, at least 0 and not whole in general; N grows by it.

    Raises:
        ValueError: a negative delay.
    """
    if not delay >= 0:
        raise ValueError(f"delay is {delay}; it must be at least 0 samples")
    count = len(samples) + int(np.ceil(delay))
    return interpolated(samples, np.arange(count) - delay)


def phase_noise(samples: Complex, linewidth: float, random: np.random.Generator) -> Complex:
    """Turn samples by a Wiener process, the phase noise of a free oscillator.

    Args:
        samples: complex64 [N].
        linewidth: two-sided 3 dB linewidth in cycles per sample; phases step by a normal number of
            variance 2π·linewidth.
        random: source of the steps.
    """
    steps = random.standard_normal(len(samples)) * np.sqrt(2 * np.pi * linewidth)
    return (samples * np.exp(1j * np.cumsum(steps))).astype(np.complex64)


def iq_imbalance(samples: Complex, gain_db: float, phase_degrees: float) -> Complex:
    """Add the mirrored signal of an unequal mixer, μ·x + ν·x*.

    Args:
        samples: complex64 [N].
        gain_db: gain of the in-phase branch over that of the quadrature branch.
        phase_degrees: deviation of their angle from 90 degrees.
    """
    ratio = 10 ** (gain_db / 20) * np.exp(1j * np.deg2rad(phase_degrees))
    straight, mirrored = (1 + ratio) / 2, (1 - ratio) / 2
    mixed: Complex = straight * samples + np.conj(mirrored) * samples.conj()
    return mixed.astype(np.complex64, copy=False)


def dc_offset(samples: Complex, offset: complex) -> Complex:
    """Add a constant, as the leakage of a local oscillator does."""
    return (samples + offset).astype(np.complex64)


def quantised(samples: Complex, bits: int, full_scale: float) -> Complex:
    """Quantise both real parts as a converter of 2^bits levels within ±full_scale does.

    Raises:
        ValueError: bits beyond 1 to 24, or a full scale that is not positive.
    """
    if not 1 <= bits <= 24 or not full_scale > 0:
        raise ValueError(f"{bits} bits and full scale {full_scale}; give 1 to 24 bits and above 0")
    step = 2 * full_scale / 2**bits
    half = 2 ** (bits - 1)
    levels = np.clip(np.floor(samples.view(np.float32) / step), -half, half - 1)
    middles: NDArray[np.float32] = ((levels + 0.5) * step).astype(np.float32)
    return middles.view(np.complex64)


def rapp_amplifier(samples: Complex, backoff_db: float, smoothness: float = 2.0) -> Complex:
    """Compress amplitudes as a solid-state amplifier does: a/(1 + (a/A)^2p)^(1/2p).

    Rapp, "Effects of HPA-nonlinearity on a 4-DPSK/OFDM-signal", ECSC 1991.

    Args:
        samples: complex64 [N].
        backoff_db: saturation power A² over the samples' mean power.
        smoothness: p.
    """
    saturation = _rms(samples) * 10 ** (backoff_db / 20)
    ratio = np.abs(samples) / max(saturation, 1e-30)
    exponent = 2 * smoothness
    compressed: Complex = (samples / (1 + ratio**exponent) ** (1 / exponent)).astype(np.complex64)
    return compressed


def clipped(samples: Complex, papr_db: float) -> Complex:
    """Limit amplitudes to `papr_db` above the mean power, phases kept; the power falls with it."""
    limit = _rms(samples) * 10 ** (papr_db / 20)
    amplitude = np.abs(samples)
    return (samples * np.minimum(1, limit / np.maximum(amplitude, 1e-30))).astype(np.complex64)


def multipath(samples: Complex, taps: Complex) -> Complex:
    """Convolve with a channel's taps, complex64 [L]; N grows by L - 1."""
    return np.convolve(samples, taps).astype(np.complex64)


def white_noise(samples: Complex, noise_power: float, random: np.random.Generator) -> Complex:
    """Add white Gaussian noise of power N0 per sample: Es/N0 = 1/N0, see `waveform`."""
    parts = random.standard_normal((len(samples), 2), np.float32).view(np.complex64)[:, 0]
    return (samples + np.float32(np.sqrt(noise_power / 2)) * parts).astype(np.complex64)


def _rms(samples: Complex) -> float:
    return float(np.sqrt(np.mean(np.abs(samples) ** 2))) if len(samples) else 0.0

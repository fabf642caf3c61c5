"""Impairments do what their formulas say."""

import numpy as np
import pytest
from frames import random_symbols

from diffjscc.radio import front_end


def tone(frequency: float, count: int = 4000) -> np.ndarray:
    return np.exp(2j * np.pi * frequency * np.arange(count)).astype(np.complex64)


def test_carrier_offset_moves_a_tone() -> None:
    np.testing.assert_allclose(front_end.carrier_offset(tone(0.1), 0.05), tone(0.15), atol=2e-3)


@pytest.mark.parametrize("ppm", [-200.0, 50.0])
def test_clock_offset_scales_frequencies(ppm: float) -> None:
    found = front_end.clock_offset(tone(0.2), ppm)[50:-50]
    expected = np.exp(2j * np.pi * 0.2 * (1 + ppm * 1e-6) * np.arange(50, 50 + len(found)))
    assert np.abs(found - expected).max() < 1e-3


def test_timing_offset_delays() -> None:
    found = front_end.timing_offset(tone(0.05), 2.5)
    assert len(found) == 4003
    expected = np.exp(2j * np.pi * 0.05 * (np.arange(4003) - 2.5))
    assert np.abs(found - expected)[50:-50].max() < 1e-3


def test_phase_noise_has_its_variance() -> None:
    found = front_end.phase_noise(np.ones(200_000, np.complex64), 1e-4, np.random.default_rng(0))
    steps = np.angle(found[1:] * found[:-1].conj())
    assert np.var(steps) == pytest.approx(2 * np.pi * 1e-4, rel=0.02)


def test_iq_imbalance_mirrors() -> None:
    """Image rejection ratio of 0.5 dB and 2 degrees: 29.5 dB."""
    spectrum = np.abs(np.fft.fft(front_end.iq_imbalance(tone(0.125), 0.5, 2.0)))
    rejection = 20 * np.log10(spectrum[500] / spectrum[3500])
    ratio = 10 ** (0.5 / 20) * np.exp(1j * np.deg2rad(2.0))
    assert rejection == pytest.approx(20 * np.log10(abs(1 + ratio) / abs(1 - ratio)), abs=0.1)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantisation_noise(bits: int) -> None:
    samples = 0.2 * random_symbols(100_000)
    error = np.mean(np.abs(front_end.quantised(samples, bits, 1.0) - samples) ** 2)
    assert error == pytest.approx(2 * (2 / 2**bits) ** 2 / 12, rel=0.05)
    assert np.abs(front_end.quantised(100 * samples, bits, 1.0).real).max() < 1


def test_rapp_saturates() -> None:
    samples = random_symbols(10_000)
    small, large = front_end.rapp_amplifier(samples, 30.0), front_end.rapp_amplifier(samples, -20.0)
    assert np.mean(np.abs(small - samples) ** 2) < 1e-4
    assert np.abs(large).max() <= 0.1 * 1.001


def test_white_noise_has_its_power() -> None:
    noise = front_end.white_noise(np.zeros(200_000, np.complex64), 0.3, np.random.default_rng(0))
    for part in (noise.real, noise.imag):
        assert np.var(part) == pytest.approx(0.15, rel=0.02)


def test_impossible_values_are_refused() -> None:
    samples = random_symbols(10)
    with pytest.raises(ValueError, match="ppm is 2000"):
        front_end.clock_offset(samples, 2000)
    with pytest.raises(ValueError, match="delay is -1"):
        front_end.timing_offset(samples, -1)
    with pytest.raises(ValueError, match="0 bits"):
        front_end.quantised(samples, 0, 1.0)

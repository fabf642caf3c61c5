"""The receiver knows nothing but samples: detection, offsets, channel, noise, all in noise."""

import numpy as np
import pytest
from frames import (
    BEFORE,
    Complex,
    effective_snr_db,
    frames_in,
    header_of,
    on_air,
    only_frame,
    random_symbols,
)

from diffjscc.radio import front_end
from diffjscc.radio.captures import Samples
from diffjscc.radio.frame import frame_samples
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.radio.receiver import LostFrame, ReceivedFrame
from diffjscc.radio.sequences import short_part
from diffjscc.radio.synchronisation import carrier_rate, find_preambles

SYMBOLS = random_symbols(1500)
every_waveform = pytest.mark.parametrize("name", WAVEFORMS)


@every_waveform
@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_awgn(name: str, snr_db: float) -> None:
    """Estimated SNR, and what estimation costs, over six frames."""
    estimates, measured = [], []
    for seed in range(6):
        frame = only_frame(on_air(name, SYMBOLS, snr_db, seed=seed))
        assert frame.header == header_of(len(SYMBOLS), seed)
        assert frame.report.start == BEFORE
        assert frame.report.waveform == name
        assert frame.report.present == 1
        estimates.append(frame.report.snr_db)
        measured.append(effective_snr_db(frame, SYMBOLS)[0])
    assert np.mean(estimates) == pytest.approx(snr_db, abs=0.25)
    assert np.mean(measured) == pytest.approx(snr_db, abs=0.35)


@every_waveform
@pytest.mark.parametrize("spacings", [-1.0, 0.3, 1.0])
def test_carrier_offsets_of_a_subcarrier(name: str, spacings: float) -> None:
    samples = on_air(
        name, SYMBOLS, 5.0, lambda x, _: front_end.carrier_offset(x, spacings / 64, 1.0)
    )
    frame = only_frame(samples)
    assert frame.report.carrier_offset == pytest.approx(spacings / 64, abs=1e-5)
    assert effective_snr_db(frame, SYMBOLS)[0] == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize("rate", [-0.15, 0.0, 0.098])
def test_carrier_rate_without_noise(rate: float) -> None:
    samples = short_part() * np.exp(1j * rate * np.arange(256))
    assert carrier_rate(samples) == pytest.approx(rate, abs=1e-6)


@every_waveform
@pytest.mark.parametrize("ppm", [-20.0, 20.0])
def test_sample_clock(name: str, ppm: float) -> None:
    sent = random_symbols(9000)
    frame = only_frame(on_air(name, sent, 12.0, lambda x, _: front_end.clock_offset(x, ppm)))
    assert frame.report.clock_offset_ppm == pytest.approx(ppm, abs=5)
    assert effective_snr_db(frame, sent)[0] == pytest.approx(12, abs=0.5)


@every_waveform
@pytest.mark.parametrize("delay", [0.25, 0.5, 17.75])
def test_timing_between_samples(name: str, delay: float) -> None:
    samples = on_air(name, SYMBOLS, 10.0, lambda x, _: front_end.timing_offset(x, delay))
    frame = only_frame(samples)
    assert abs(frame.report.start - BEFORE - delay) < 1
    assert effective_snr_db(frame, SYMBOLS)[0] == pytest.approx(10, abs=0.5)


def taps(random: np.random.Generator) -> Complex:
    """Six exponential taps, power 1 as drawn."""
    profile = np.exp(-np.arange(6) / 2.0)
    values = random.standard_normal((6, 2)).view(np.complex128)[:, 0] * np.sqrt(profile)
    return (values / np.sqrt(np.sum(np.abs(values) ** 2))).astype(np.complex64)


@every_waveform
def test_multipath_is_estimated_and_its_effective_snr_is_true(name: str) -> None:
    for seed in range(5):
        air = on_air(name, SYMBOLS, 10.0, lambda x, r: front_end.multipath(x, taps(r)), seed)
        frame = only_frame(air)
        measured, claimed = effective_snr_db(frame, SYMBOLS)
        assert measured == pytest.approx(claimed, abs=0.5)
        assert measured > 3


@pytest.mark.parametrize(
    ("impair", "lowest"),
    [
        (lambda x, _: front_end.iq_imbalance(x, 0.5, 2.0), 18.5),
        (lambda x, _: front_end.dc_offset(x, 0.1), 19.0),
        (lambda x, _: front_end.quantised(x, 8, 4.0), 19.0),
        (lambda x, _: front_end.rapp_amplifier(x, 9.0), 18.0),
        (lambda x, _: front_end.clipped(x, 8.0), 18.5),
        (lambda x, r: front_end.phase_noise(x, 1e-6, r), 18.5),
    ],
)
def test_front_ends(impair: object, lowest: float) -> None:
    frame = only_frame(on_air("ofdm-64", SYMBOLS, 20.0, impair))  # type: ignore[arg-type]
    assert lowest < effective_snr_db(frame, SYMBOLS)[0] < 20.3


def test_several_frames_and_one_that_is_cut() -> None:
    frames = [
        frame_samples(WAVEFORMS[name], header_of(900, number), random_symbols(900, number))
        for number, name in enumerate(("ofdm-64", "single-carrier", "ofdm-1024", "ofdm-64"))
    ]
    gaps = np.zeros(333, np.complex64)
    samples = np.concatenate([part for frame in frames for part in (gaps, frame)])
    samples = front_end.white_noise(samples[:-1000], 0.1, np.random.default_rng(0))
    *whole, cut = frames_in(samples)
    assert [frame.header.number for frame in whole if isinstance(frame, ReceivedFrame)] == [0, 1, 2]
    assert isinstance(cut, ReceivedFrame)
    assert 0.2 < cut.report.present < 0.8
    values, gain = cut.received.values[0].numpy(), cut.received.state.gain[0].numpy()
    held = np.abs(gain) > 0.01
    assert held.mean() == pytest.approx(cut.report.present)
    sent = random_symbols(900, 3)
    error = np.abs(values / gain - sent)[held] ** 2
    assert np.mean(error) == pytest.approx(0.1, rel=0.25)


def test_a_frame_cut_in_its_header_is_lost_in_words() -> None:
    samples = on_air("ofdm-64", SYMBOLS, 10.0)[: BEFORE + 3000]
    (lost,) = frames_in(samples)
    assert isinstance(lost, LostFrame)
    assert "ends before the frame's header" in lost.reason


def test_noise_holds_no_preamble() -> None:
    random = np.random.default_rng(0)
    noise = front_end.white_noise(np.zeros(1_000_000, np.complex64), 1.0, random)
    assert list(find_preambles(Samples(noise))) == []


@pytest.mark.parametrize("frequency", [0.0, 0.01, 0.25])
def test_tones_hold_no_preamble(frequency: float) -> None:
    tone = front_end.carrier_offset(np.ones(100_000, np.complex64), frequency)
    noisy = front_end.white_noise(tone, 0.1, np.random.default_rng(1))
    assert list(find_preambles(Samples(noisy))) == []


@pytest.mark.parametrize("length", [0, 1, 255, 511, 512])
def test_short_captures_hold_nothing(length: int) -> None:
    assert frames_in(np.ones(length, np.complex64)) == []


def test_the_level_does_not_matter() -> None:
    samples = on_air("ofdm-64", SYMBOLS, 10.0)
    for factor in (1e-6, 1e5):
        assert only_frame(samples * np.float32(factor)).report.snr_db == pytest.approx(10, abs=0.5)


def test_preambles_in_noise_whose_energy_multipath_divides() -> None:
    """Five equal paths at -4 dB in all: each has 6 % of the energy."""
    found = 0
    for seed in range(40):
        taps = np.zeros(17, np.complex64)
        taps[::4] = np.exp(1j * np.random.default_rng(seed).uniform(0, 6.28, 5)) / np.sqrt(5)
        samples = on_air(
            "ofdm-64", SYMBOLS[:64], -4.0, lambda x, _, t=taps: front_end.multipath(x, t), seed
        )
        starts = [detection.start for detection in find_preambles(Samples(samples))]
        found += any(BEFORE <= start <= BEFORE + 16 for start in starts)
    assert found >= 27

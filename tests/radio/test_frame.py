"""Frames: what is on the air, its power, its cost; headers survive noise."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from frames import header_of, random_symbols

from diffjscc.radio.frame import Layout, compose, frame_samples, header_layout
from diffjscc.radio.front_end import clipped, white_noise
from diffjscc.radio.header import Header, demodulate_header, header_length
from diffjscc.radio.presets import WAVEFORMS, papr_db
from diffjscc.radio.sequences import interleaved, preamble

HEADER = Header(3, "0123456789ab", Fraction(3, 128), 512, 768, 3072, -4.56, 7, 5, True, False)
every_waveform = pytest.mark.parametrize("name", WAVEFORMS)


def test_a_header_says_what_was_meant() -> None:
    cells = HEADER.modulate()
    assert len(cells) == header_length()
    assert demodulate_header(cells, np.ones_like(cells), 0.1) == HEADER


def test_a_header_survives_noise_of_five_times_its_power() -> None:
    cells = HEADER.modulate()
    for seed in range(20):
        noisy = white_noise(cells, 10**0.5, np.random.default_rng(seed))
        assert demodulate_header(noisy, np.ones_like(cells), 10**0.5) == HEADER


def test_noise_is_no_header() -> None:
    for seed in range(20):
        noise = white_noise(np.zeros(header_length(), np.complex64), 1, np.random.default_rng(seed))
        assert demodulate_header(noise, np.ones_like(noise), 1.0) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 65536}, "width is 65,536; a frame's header holds 0 to 65,535"),
        ({"symbols": 0}, "must be at least 1"),
        ({"snr_db": 400.0}, "snr_steps is 40,000"),
        ({"rate": Fraction(1, 70000)}, "denominator is 70,000"),
        ({"number": -1}, "number is -1"),
    ],
)
def test_values_beyond_the_header_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(HEADER, **change)


@every_waveform
@pytest.mark.parametrize("symbols", [1, 64, 3000])
def test_uses_add_up_and_the_frame_is_as_long_as_its_layout(name: str, symbols: int) -> None:
    form = WAVEFORMS[name]
    layout = Layout(form, symbols)
    samples = frame_samples(form, header_of(symbols), random_symbols(symbols))
    assert len(samples) == layout.samples
    uses = layout.uses_by_kind(codec_padding=1)
    assert min(uses.values()) >= 0
    assert sum(uses.values()) * form.samples_per_point == len(samples)
    assert uses["image"] == symbols - 1
    assert uses["header"] == 2376


@every_waveform
def test_cells_have_unit_energy_on_the_air(name: str) -> None:
    """A sample has the share of used bins, or half a symbol's energy at two samples a symbol."""
    form = WAVEFORMS[name]
    samples = frame_samples(form, header_of(6000), random_symbols(6000))[512:]
    expected = form.columns / form.size / form.samples_per_point
    assert np.mean(np.abs(samples) ** 2) == pytest.approx(expected, rel=0.02)


@every_waveform
def test_rows_come_back(name: str) -> None:
    form = WAVEFORMS[name]
    cells = compose(form, header_of(500), random_symbols(500))
    samples = form.modulate(cells)
    bins = form.demodulate(samples, len(cells), 0.0, 0.0)
    found = form.despread(bins)
    # The ends of a pulse of 41 samples are cut off; OFDM is exact.
    assert np.mean(np.abs(found - cells) ** 2) < (1e-3 if form.samples_per_point > 1 else 1e-10)


@every_waveform
def test_the_headers_rows_are_those_of_any_frame(name: str) -> None:
    form = WAVEFORMS[name]
    first = header_layout(form)
    cells = {
        symbols: compose(form, header_of(symbols), random_symbols(symbols)) for symbols in (1, 5000)
    }
    for symbols, found in cells.items():
        whole = Layout(form, symbols)
        begun = Layout(form, symbols, held=first.rows)
        header = whole.header_cells(found[whole.data_rows])
        np.testing.assert_array_equal(header, header_of(symbols).modulate())
        np.testing.assert_array_equal(header, begun.header_cells(found[begun.data_rows]))
        if whole.all_rows > first.rows + 1:
            np.testing.assert_array_equal(begun.training_rows, first.training_rows)


@pytest.mark.parametrize("length", [1, 2, 48, 3072, 4095])
def test_neighbours_lie_far_apart(length: int) -> None:
    order = interleaved(length)
    assert sorted(order) == list(range(length))
    if length > 40:
        steps = np.abs(np.diff(order))
        assert np.minimum(steps, length - steps).min() > length / 4


@every_waveform
def test_preambles_name_their_waveform_and_have_no_peaks(name: str) -> None:
    own = preamble(name)
    assert np.mean(np.abs(own) ** 2) == pytest.approx(1, abs=1e-5)
    assert papr_db(own) < 6
    for other in WAVEFORMS:
        match = np.abs(np.vdot(own[256:], preamble(other)[256:])) / 256
        assert (match > 0.99) if other == name else (match < 0.2)


def test_clipping_limits_the_papr() -> None:
    samples = frame_samples(WAVEFORMS["ofdm-64"], header_of(3000), random_symbols(3000))[512:]
    assert papr_db(samples) > 8
    assert papr_db(clipped(samples, 5.0)) < 5.6  # its mean power fell a little
    np.testing.assert_allclose(np.angle(clipped(samples, 5.0)), np.angle(samples), atol=1e-4)

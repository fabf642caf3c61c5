"""Multipath under OFDM: the profile's statistics, the noise, combining, CSI, gradients."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from diffjscc import ChannelState, Scheme, Symbols
from diffjscc.channels import Multipath, normalise_power
from diffjscc.channels.equalisation import mmse, zero_forcing
from diffjscc.channels.multipath import Equaliser, exponential, tapped_delay_line
from diffjscc.codecs.digital.separate import SeparateCodec
from diffjscc.codecs.digital.source_codecs.pillow import JPEG
from diffjscc.codecs.low_snr import equalise
from diffjscc.configuration import check
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.symbols import LOWEST_SNR_DB


def symbols_of(batch: int, uses: int, seed: int = 0) -> Symbols:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(batch, uses, dtype=torch.complex64, generator=generator)
    return Symbols(normalise_power(values), (16, 16), Fraction(1, 8))


def noise_of(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("doppler", [0.0, 0.02])
def test_power_and_correlation_over_frequency(doppler: float) -> None:
    """E|H|² = 1 and E[H_0 H*_k] = Σ p_l exp(2πj kl/S)."""
    channel = Multipath(10.0, taps=8, decay=4.0, doppler=doppler)
    gain = channel.sample_state(20_000, noise_of()).gain
    assert gain.shape == (20_000, 64)
    assert gain.abs().square().mean().item() == pytest.approx(1, abs=0.02)
    line = exponential(8, 4.0)
    for k in (1, 8, 32):
        measured = (gain[:, 0] * gain[:, k].conj()).mean()
        turns = torch.exp(2j * math.pi * k * line.delays / 64)
        assert abs(measured - (line.powers * turns).sum()) < 0.03


def test_correlation_over_time_is_jakes() -> None:
    """E[H_0 H*_t] = J0(2π f t) for OFDM symbols t apart."""
    channel, blocks = Multipath(20.0, doppler=0.05), 8
    received = channel(symbols_of(8000, 64 * blocks), noise_of())
    gain = received.state.gain.reshape(8000, blocks, 64)[:, :, 5]
    for t in range(blocks):
        measured = (gain[:, 0] * gain[:, t].conj()).mean().real.item()
        expected = torch.special.bessel_j0(torch.tensor(2 * math.pi * 0.05 * t)).item()
        assert measured == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("antennas", [1, 4])
def test_noise_is_that_of_the_snr_after_combining(antennas: int) -> None:
    sent = symbols_of(200, 640)
    received = Multipath(7.0, antennas=antennas)(sent, noise_of())
    noise = received.values - received.state.gain * sent.values
    assert noise.abs().square().mean().item() == pytest.approx(10**-0.7, rel=0.03)
    power = received.state.gain.abs().square().mean().item()
    assert power == pytest.approx(antennas, rel=0.1)


def test_errors_of_the_csi_have_their_variance() -> None:
    sent = symbols_of(100, 640)
    channel = Multipath(10.0, csi_error=0.5)
    state = channel.sample_state(100, noise_of())
    known = channel(sent, noise_of(2), state).state.gain
    true = Multipath(10.0)(sent, noise_of(2), state).state.gain
    assert (known - true).abs().square().mean().item() == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("equaliser", ["zf", "mmse"])
def test_explicit_equalisers_hand_on_the_snr_that_is_left(equaliser: str) -> None:
    sent = symbols_of(50, 64 * 40)
    received = Multipath(15.0, equaliser=equaliser)(sent, noise_of())  # type: ignore[arg-type]
    assert received.state.gain.shape == (50, 1)
    assert torch.equal(received.state.mean_snr_db, torch.full((50,), 15.0))
    error = (received.equalised - sent.values).abs().square().mean(1)
    claimed = torch.pow(10.0, -received.snr_db / 10)
    ratio = (error / claimed).mean().item()
    assert ratio == pytest.approx(1, abs=0.1)


def test_codecs_equalise_once() -> None:
    """What the channel equalises by MMSE reaches a codec's networks as what that codec does."""
    sent = symbols_of(20, 640)
    state = Multipath(5.0).sample_state(20, noise_of())
    by_codec, by_channel, by_zero_forcing = (
        equalise(Multipath(5.0, equaliser=name)(sent, noise_of(3), state))  # type: ignore[arg-type]
        for name in ("none", "mmse", "zf")
    )
    torch.testing.assert_close(by_codec[0], by_channel[0])
    torch.testing.assert_close(by_codec[1].snr_db, by_channel[1].snr_db)
    faded = Multipath(5.0)(sent, noise_of(3), state)
    torch.testing.assert_close(by_zero_forcing[0], faded.equalised)


@pytest.mark.parametrize("equaliser", ["none", "zf", "mmse"])
def test_a_digital_receiver_assumes_what_the_transmitter_did(equaliser: Equaliser) -> None:
    """Modulation and coding are chosen for the mean SNR, whatever an equaliser leaves."""
    image = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    mild = Multipath(15.0, taps=2, decay=0.2, antennas=4, equaliser=equaliser)
    codec = SeparateCodec(JPEG(), (Fraction(1, 4),))
    scheme = Scheme(codec, codec.rates[0])
    received = scheme.send(image, mild, noise_of(5))
    assert float(received.snr_db) > 18  # another modulation than that of 15 dB
    assert not scheme.decode(received).outage.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("equaliser", ["zf", "mmse"])
def test_symbols_that_did_not_arrive_are_no_numbers_out_of_range(equaliser: Equaliser) -> None:
    values = torch.ones(2, 4, dtype=torch.complex64)
    gain = torch.tensor([[0, 0, 0, 0], [1, 0, 1, 1]], dtype=torch.complex64)
    by = zero_forcing if equaliser == "zf" else mmse
    equal, state = by(values, ChannelState(gain, torch.tensor([20.0, 20.0])))
    assert not equal[0].any()
    assert float(state.snr_db[0]) == pytest.approx(LOWEST_SNR_DB, abs=1e-3)
    assert torch.isfinite(torch.view_as_real(equal)).all()
    assert float(state.snr_db[1]) < 10


def test_mmse_leaves_less_than_zero_forcing() -> None:
    sent = symbols_of(50, 640)
    state = Multipath(5.0).sample_state(50, noise_of())
    zf, mmse = (
        Multipath(5.0, equaliser=name)(sent, noise_of(3), state).snr_db for name in ("zf", "mmse")
    )
    assert (mmse >= zf - 1e-4).all()
    assert (mmse - zf).mean() > 1


@pytest.mark.parametrize("equaliser", ["none", "zf", "mmse"])
@pytest.mark.parametrize("doppler", [0.0, 0.1])
def test_gradients_pass(equaliser: str, doppler: float) -> None:
    latent = torch.randn(2, 100, dtype=torch.complex64, generator=noise_of()).requires_grad_()
    sent = Symbols(normalise_power(latent), (16, 16), Fraction(1, 8))
    channel = Multipath(5.0, equaliser=equaliser, doppler=doppler)  # type: ignore[arg-type]
    channel(sent, noise_of()).equalised.abs().square().sum().backward()
    assert latent.grad is not None
    assert torch.isfinite(torch.view_as_real(latent.grad)).all()


@pytest.mark.parametrize("doppler", [0.0, 0.1])
def test_an_image_has_its_own_numbers_in_any_batch(doppler: float) -> None:
    sent, channel = symbols_of(3, 100), Multipath(5.0, antennas=2, doppler=doppler, csi_error=1.0)

    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together = channel(sent, generators(7, 8, 9)).values[1:2]
    one = Symbols(sent.values[1:2], sent.image_size, sent.nominal_rate)
    torch.testing.assert_close(channel(one, generators(8)).values, together, rtol=1e-5, atol=1e-5)
    state = channel.sample_state(3, generators(7, 8, 9))
    noise = generators(1)
    alone = channel(one, noise, state.select(slice(1, 2)))
    assert torch.isfinite(torch.view_as_real(alone.values)).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"taps": 0}, "taps is 0"),
        ({"decay": math.inf}, "decay inf"),
        ({"antennas": 0}, "antennas 0"),
        ({"doppler": -1.0}, "doppler is -1"),
        ({"csi_error": math.nan}, "csi_error is nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Multipath(1.0, **settings)


def test_a_state_of_another_channel_is_refused() -> None:
    state = ChannelState(torch.ones(2, 1, dtype=torch.complex64), torch.zeros(2))
    with pytest.raises(ValueError, match="another channel"):
        Multipath(1.0)(symbols_of(2, 8), None, state)


def test_a_config_names_it() -> None:
    config = check(ChannelConfig, {"name": "ofdm", "ofdm": {"taps": 4, "equaliser": "zf"}}, "c")
    assert config.label == "ofdm, taps = 4, equaliser = zf"
    assert config.at(3.0) == Multipath(3.0, taps=4, equaliser="zf")
    with pytest.raises(ValueError, match="no effect on awgn"):
        check(ChannelConfig, {"ofdm": {"taps": 4}}, "c")
    with pytest.raises(ValueError, match="transmitter_csi"):
        check(ChannelConfig, {"name": "ofdm", "transmitter_csi": True}, "c")


@pytest.mark.parametrize("profile", ["tdl-a", "tdl-c", "tdl-d"])
def test_profiles_of_tr_38_901(profile: str) -> None:
    """Rms delay spread, power, and the share of the path that does not fade."""
    pytest.importorskip("sionna")
    line = tapped_delay_line(profile, 100.0, 20e6)  # type: ignore[arg-type]
    powers = line.powers.clone()
    powers[0] += line.line_of_sight
    assert powers.sum().item() == pytest.approx(1, abs=1e-4)
    spread = rms_spread(powers, line.delays) / 20e6
    assert spread == pytest.approx(100e-9, rel=0.05)
    assert (line.line_of_sight > 0.8) == (profile == "tdl-d")
    gain = Multipath(5.0, profile).sample_state(4000, noise_of()).gain  # type: ignore[arg-type]
    assert gain.abs().square().mean().item() == pytest.approx(1, abs=0.05)


def rms_spread(powers: Tensor, delays: Tensor) -> float:
    mean = (powers * delays).sum()
    return float(((powers * delays.square()).sum() - mean**2).sqrt())

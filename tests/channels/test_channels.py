"""The physics: Es/N0 as promised, per image, on every channel; error rates as theory says."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffjscc import AWGN, Rayleigh, Rician, Symbols
from diffjscc.channels import normalise_power

CHANNELS = {
    "awgn": AWGN,
    "rayleigh": Rayleigh,
    "rician": lambda snr_db: Rician(snr_db, k_factor=3.0),
}


def symbols_of(values: Tensor) -> Symbols:
    return Symbols(values, (16, 16), Fraction(1, 128))


def unequal_images(batch: int, length: int, seed: int) -> Tensor:
    """Latents of very different scale and statistics, as a batch of unlike images gives."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(batch, length, dtype=torch.complex64, generator=generator)
    spread = torch.rand(batch, length, generator=generator) ** torch.arange(batch)[:, None]
    return values * spread * 10.0 ** torch.linspace(-4, 4, batch)[:, None]


@pytest.mark.parametrize("name", CHANNELS)
@settings(max_examples=8, deadline=None)
@given(snr_db=st.floats(-10, 30), seed=st.integers(0, 1000))
def test_es_n0_is_what_was_asked_for_in_every_image(name: str, snr_db: float, seed: int) -> None:
    batch, length = 4, 500_000
    values = normalise_power(unequal_images(batch, length, seed))
    generator = torch.Generator().manual_seed(seed)
    received = CHANNELS[name](snr_db)(symbols_of(values), generator)
    signal = received.state.gain * values
    noise = received.values - signal
    for part in (noise.real, noise.imag):  # half the power in each real part
        measured = 10 * torch.log10(0.5 / part.square().mean(dim=1))
        assert (measured - snr_db).abs().max() < 0.05
    es_n0 = 10 * torch.log10(signal.abs().square().mean(dim=1) / noise.abs().square().mean(dim=1))
    assert (es_n0 - received.snr_db).abs().max() < 0.05


def test_snr_per_image() -> None:
    snr_db = torch.tensor([-5.0, 1.0, 20.0])
    values = normalise_power(unequal_images(3, 200_000, 0))
    received = AWGN(snr_db)(symbols_of(values), torch.Generator().manual_seed(0))
    noise = received.values - values
    measured = -10 * torch.log10(noise.abs().square().mean(dim=1))
    assert (measured - snr_db).abs().max() < 0.05
    assert torch.equal(received.state.mean_snr_db, received.snr_db)


@pytest.mark.parametrize(("k_factor", "fourth_moment"), [(0.0, 2.0), (4.0, 1.36)])
def test_fading_statistics(k_factor: float, fourth_moment: float) -> None:
    """E|h|² = 1 and E|h|⁴ = 2 - (k/(k+1))²."""
    state = Rician(1.0, k_factor).sample_state(400_000, torch.Generator().manual_seed(1))
    power = state.gain.abs().square()
    assert power.mean().item() == pytest.approx(1, abs=0.01)
    assert power.square().mean().item() == pytest.approx(fourth_moment, rel=0.02)


def test_rayleigh_is_rician_without_a_line_of_sight() -> None:
    one = Rayleigh(3.0).sample_state(8, torch.Generator().manual_seed(2))
    other = Rician(3.0, k_factor=0.0).sample_state(8, torch.Generator().manual_seed(2))
    assert torch.equal(one.gain, other.gain)


def test_noise_does_not_follow_the_fade() -> None:
    state = Rayleigh(5.0).sample_state(1000, torch.Generator().manual_seed(3))
    assert state.noise_power.unique().numel() == 1
    expected = 5 + 20 * torch.log10(state.gain.abs().squeeze(1))
    torch.testing.assert_close(state.snr_db, expected, atol=1e-3, rtol=0)


def q_function(x: float) -> float:
    return 0.5 * math.erfc(x / math.sqrt(2))


def bit_error_rate(name: str, bits_per_symbol: int, snr_db: float, length: int) -> float:
    """Uncoded BPSK or QPSK, hard decisions after equalisation; one fade per block of a symbol."""
    generator = torch.Generator().manual_seed(4)
    blocks = 2_000_000 if name == "rayleigh" else 1
    bits = torch.randint(0, 2, (blocks, length, bits_per_symbol), generator=generator)
    levels = 1.0 - 2 * bits
    if bits_per_symbol == 1:
        values = torch.complex(levels[..., 0], torch.zeros(blocks, length))
    else:
        values = torch.complex(levels[..., 0], levels[..., 1]) / math.sqrt(2)
    equalised = CHANNELS[name](snr_db)(symbols_of(values), generator).equalised
    decided = torch.stack((equalised.real, equalised.imag), dim=-1)[..., :bits_per_symbol] < 0
    return (decided != bits.bool()).float().mean().item()


@pytest.mark.parametrize("bits_per_symbol", [1, 2])
def test_bit_error_rate_over_awgn(bits_per_symbol: int) -> None:
    ebn0_db = 4.3232  # Q(sqrt(2 Eb/N0)) = 1e-2
    ebn0 = 10 ** (ebn0_db / 10)
    theory = q_function(math.sqrt(2 * ebn0))
    assert theory == pytest.approx(1e-2, rel=1e-3)
    snr_db = ebn0_db + 10 * math.log10(bits_per_symbol)
    measured = bit_error_rate("awgn", bits_per_symbol, snr_db, 3_000_000)
    assert measured == pytest.approx(theory, rel=0.02)


@pytest.mark.parametrize("bits_per_symbol", [1, 2])
def test_bit_error_rate_over_rayleigh(bits_per_symbol: int) -> None:
    """(1 - sqrt(g/(1+g)))/2 at mean Eb/N0 g; 1e-2 at 13.85 dB."""
    ebn0_db = 13.8476
    ebn0 = 10 ** (ebn0_db / 10)
    theory = 0.5 * (1 - math.sqrt(ebn0 / (1 + ebn0)))
    assert theory == pytest.approx(1e-2, rel=1e-3)
    snr_db = ebn0_db + 10 * math.log10(bits_per_symbol)
    measured = bit_error_rate("rayleigh", bits_per_symbol, snr_db, 1)
    assert measured == pytest.approx(theory, rel=0.02)


def test_generators_make_noise_repeatable_and_independent_of_the_batch() -> None:
    values = normalise_power(unequal_images(3, 64, 5))
    each = [torch.Generator().manual_seed(seed) for seed in (7, 8, 9)]
    together = Rayleigh(1.0)(symbols_of(values), each).values
    alone = Rayleigh(1.0)(symbols_of(values[1:2]), [torch.Generator().manual_seed(8)]).values
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=0)
    again = Rayleigh(1.0)(symbols_of(values), torch.Generator().manual_seed(7)).values
    other = Rayleigh(1.0)(symbols_of(values), torch.Generator().manual_seed(6)).values
    assert not torch.equal(again, other)


@pytest.mark.parametrize("name", CHANNELS)
def test_gradients_pass(name: str) -> None:
    latent = unequal_images(2, 32, 6).requires_grad_()
    received = CHANNELS[name](2.0)(symbols_of(normalise_power(latent)))
    received.equalised.abs().square().sum().backward()
    assert latent.grad is not None
    assert torch.isfinite(torch.view_as_real(latent.grad)).all()
    assert latent.grad.abs().sum() > 0


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_unsendable_symbols_are_refused(bad: float) -> None:
    values = torch.ones(3, 8, dtype=torch.complex64)
    values[1] *= bad
    with pytest.raises(ValueError, match="image 1 have mean power"):
        normalise_power(values)


@pytest.mark.parametrize("snr_db", [math.nan, math.inf, 1e4, torch.zeros(2), torch.zeros(3, 1)])
def test_bad_snr_is_refused(snr_db: float | Tensor) -> None:
    with pytest.raises(ValueError, match="snr_db"):
        AWGN(snr_db).sample_state(3)


def test_bad_k_factor_is_refused() -> None:
    with pytest.raises(ValueError, match="k_factor is -1"):
        Rician(1.0, k_factor=-1)


def test_number_of_generators_is_checked() -> None:
    with pytest.raises(ValueError, match="2 generators for 3 images"):
        Rayleigh(1.0).sample_state(3, [torch.Generator(), torch.Generator()])

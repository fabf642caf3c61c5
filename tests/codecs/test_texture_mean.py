"""The mean of texture maps beneath a latent channel: what it costs and how well it arrives."""

import math

import pytest
import torch
from torch import Tensor

from diffjscc.channels.power import normalise_power
from diffjscc.codecs.joint import latent_to_symbols, symbols_to_latent
from diffjscc.codecs.texture_mean import LEAST, SHARE, receive_mean, send_mean

SIZE = (32, 48)


def latents(batch: int = 64, size: tuple[int, int] = SIZE) -> Tensor:
    """Latents of unequal channel powers, whose first channel varies slowly as images do."""
    draw = torch.Generator().manual_seed(0)
    latent = torch.randn(batch, 4, *size, generator=draw)
    slow = torch.randn(batch, 1, size[0] // 4, size[1] // 4, generator=draw)
    latent[:, :1] += 2 * torch.nn.functional.interpolate(slow, scale_factor=4.0)
    return 30 * latent


def maps(means: Tensor) -> Tensor:
    return means[:, None, None, None] + torch.zeros(len(means), 1, *SIZE)


def sent(means: Tensor) -> Tensor:
    """Latents of symbols of power 1, with the pattern."""
    values = normalise_power(latent_to_symbols(send_mean(latents(), maps(means), 4)))
    return symbols_to_latent(values, 4, SIZE)


def test_without_noise_any_mean_arrives() -> None:
    means = torch.linspace(-2, 6, 64)
    _, received = receive_mean(sent(means), torch.full((64,), 60.0))
    torch.testing.assert_close(received.value, means, atol=1e-3, rtol=0)
    assert received.weight.min().item() > 0.999


def test_it_takes_one_percent_of_the_power_and_leaves_the_rest() -> None:
    latent = latents()
    carried = send_mean(latent, maps(torch.full((64,), 3.0)), 4)
    added = (carried - latent).square().sum() / latent.square().sum()
    assert added.item() == pytest.approx(SHARE, rel=0.2)  # the own component is a little more
    assert torch.equal(carried[:, 1:], latent[:, 1:])
    clean, _ = receive_mean(carried, torch.zeros(64))
    left = (clean - latent).square().sum() / latent.square().sum()
    assert left.item() < 0.2 * SHARE


@pytest.mark.parametrize("snr_db", [-4.0, 1.0, 7.0])
def test_its_error_is_that_of_a_phase_in_noise(snr_db: float) -> None:
    means = torch.linspace(0, 4, 64)
    draw = torch.Generator().manual_seed(1)
    noise = math.sqrt(10 ** (-snr_db / 10) / 2) * torch.randn(64, 4, *SIZE, generator=draw)
    _, received = receive_mean(sent(means) + noise, torch.full((64,), snr_db))
    # Cramér-Rao: N0 / (2 E), E = SHARE · K for K symbols of power 1.
    energy = SHARE * 2 * SIZE[0] * SIZE[1]
    expected = 1.6 * math.sqrt(10 ** (-snr_db / 10) / 2 / energy)
    error = (received.value - means).square().mean().sqrt().item()
    assert error == pytest.approx(expected, rel=0.3)
    assert received.weight.mean().item() == pytest.approx(0.64 / (0.64 + expected**2), abs=0.05)


def test_amplitudes_and_their_shrinkage_do_not_matter() -> None:
    means = torch.linspace(-1, 5, 64)
    _, received = receive_mean(0.3 * sent(means), torch.full((64,), 60.0))
    torch.testing.assert_close(received.value, means, atol=1e-3, rtol=0)


def test_a_map_is_shifted_by_what_the_mean_is_worth() -> None:
    means = torch.full((64,), 1.0)
    found = maps(torch.full((64,), 3.0))
    _, good = receive_mean(sent(means), torch.full((64,), 60.0))
    torch.testing.assert_close(good.correct(found), maps(means), atol=5e-3, rtol=0)
    _, bad = receive_mean(sent(means), torch.full((64,), -60.0))
    torch.testing.assert_close(bad.correct(found), found, atol=1e-2, rtol=0)


def test_small_latents_are_left_as_they_are() -> None:
    latent = latents(2, (12, 20))
    assert latent[0, 0].numel() < LEAST
    texture = torch.ones(2, 1, 12, 20)
    assert torch.equal(send_mean(latent, texture, 4), latent)
    same, received = receive_mean(latent, torch.full((2,), 20.0))
    assert torch.equal(same, latent)
    assert torch.equal(received.correct(texture), texture)

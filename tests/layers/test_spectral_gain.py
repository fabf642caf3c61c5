"""Spectral gain: neutral when new, selective by frequency, the same at all rates."""

import math

import torch

from diffjscc.layers.spectral_gain import OCTAVES, SpectralGain


def test_a_new_gain_is_neutral_and_a_trained_one_selects_by_frequency() -> None:
    torch.manual_seed(0)
    gain = SpectralGain(3, 8)
    condition = torch.randn(2, 8)
    latent = torch.randn(2, 3, 11, 16)
    torch.testing.assert_close(gain(latent, condition), latent, rtol=1e-5, atol=1e-5)
    nodes = gain.log_gain.bias.data.view(3, 3, OCTAVES)
    nodes[:, 0, :2] = math.log(0.5)  # radial frequencies up to 1/16 half-waves per position
    smooth = torch.ones(2, 3, 32, 32)
    quickest = torch.cos(torch.pi * (torch.arange(32.0) + 0.5) * 31 / 32)
    checkered = (quickest[:, None] * quickest).expand(2, 3, 32, 32)
    torch.testing.assert_close(gain(smooth, condition), smooth / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gain(checkered, condition), checkered, rtol=1e-4, atol=1e-4)
    nodes.zero_()
    nodes[1, 1, 5] = math.log(3.0)  # one channel's quickest vertical changes alone
    striped = quickest[:, None].expand(2, 3, 32, 32)
    upright, lying = (gain(x, condition) for x in (striped, striped.mT))
    assert (upright / striped)[:, 1].mean() > 2.5
    torch.testing.assert_close(upright[:, ::2], striped[:, ::2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lying, striped.mT, rtol=1e-4, atol=1e-4)


def test_the_first_channels_are_filtered_alike_whatever_the_rate() -> None:
    torch.manual_seed(0)
    gain = SpectralGain(8, 4)
    torch.nn.init.normal_(gain.log_gain.weight)
    latent, condition = torch.randn(1, 8, 6, 9), torch.randn(1, 4)
    torch.testing.assert_close(gain(latent[:, :4], condition), gain(latent, condition)[:, :4])

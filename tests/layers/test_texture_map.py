"""Texture map: the deviation of fine scales, in octaves of levels."""

import pytest
import torch

from diffjscc.layers.texture import texture_map


def test_the_map_is_the_deviation_of_fine_scales() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = 0.5 + 8 / 255 * torch.randn(1, 1, 128, 128, generator=draw).expand(-1, 3, -1, -1)
    assert texture_map(noise).shape == (1, 1, 8, 8)
    assert texture_map(noise).mean().item() == pytest.approx(3, abs=0.1)


def test_gradients_have_no_texture_and_each_octave_counts_one() -> None:
    ramp = torch.linspace(0, 1, 128).expand(1, 3, 128, 128)
    assert texture_map(ramp)[..., 1:-1].max().item() == -2
    noise = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)) / 50
    torch.testing.assert_close(texture_map(0.5 + 2 * noise), texture_map(0.5 + noise) + 1)


def test_the_map_is_local() -> None:
    half = torch.zeros(1, 3, 64, 128)
    half[..., 64:] = torch.rand(64, 64, generator=torch.Generator().manual_seed(2))
    found = texture_map(half)
    assert found[..., :3].max().item() == -2
    assert found[..., 5:].min().item() > 4

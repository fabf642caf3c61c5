"""The receiver on images larger than a band: the whole image's result."""

import pytest
import torch

from diffjscc.data.geometry import PaddedImages
from diffjscc.data.images import to_levels
from diffjscc.layers import banding
from diffjscc.refiners.latents import decode, encode
from diffjscc.refiners.sampling import SamplerConfig
from diffjscc.refiners.vae import CompactVAE
from toy_refiner import generators, make_refiner, receive


def test_bands_of_the_vae_give_what_the_whole_image_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vae = CompactVAE(widths=(12, 16), encoder_blocks=(1, 2), decoder_blocks=(2, 1, 2), fine_width=8)
    vae.eval().requires_grad_(False)
    for parameter in vae.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape))
    images = PaddedImages(torch.rand(1, 3, 477, 200), 64)
    latent = torch.randn(1, 16, 30, 14)
    whole = encode(vae, images, 128).mean, decode(vae, latent, 128)
    monkeypatch.setattr(banding, "LARGEST_WHOLE", 0)
    monkeypatch.setattr(banding, "BAND", 70)
    bands = encode(vae, images, 128).mean, decode(vae, latent, 128)
    for expected, found in zip(whole, bands, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        assert not torch.equal(found, expected)  # rounding: there were bands


@pytest.mark.parametrize("levels", [((0.2, 0.9), (0.6, 0.0)), ((0.2, 0.0), (0.6, 0.0))])
def test_levels_of_an_image_are_those_of_its_floats(
    levels: tuple[tuple[float, float], ...],
) -> None:
    torch.manual_seed(0)
    sampler = SamplerConfig("ddpm", 2, "initial", levels)
    refiner = make_refiner(sampler=sampler)
    initial, received = torch.rand(2, 3, 20, 28), receive([3.0, 13.0])
    whole = refiner.refine(initial, received, generators(1, 2)).image
    found = refiner.refine_to_levels(initial, received, generators(1, 2)).image
    assert torch.equal(found, to_levels(whole))


def test_levels_that_would_not_be_finite_are_refused() -> None:
    refiner = make_refiner(sampler=SamplerConfig("ddpm", 1))
    next(refiner.vae.decoder.parameters()).data.fill_(torch.nan)
    with pytest.raises(ValueError, match="hold NaN"):
        refiner.refine_to_levels(torch.rand(1, 3, 16, 16), receive([3.0]), generators(1))

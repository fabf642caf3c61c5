"""The receiver on images larger than a band: the whole image's result."""

import pytest
import torch

from diffjscc.data.geometry import PaddedImages
from diffjscc.layers import banding
from diffjscc.refiners.latents import decode, encode
from diffjscc.refiners.vae import CompactVAE


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

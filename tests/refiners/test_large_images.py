"""The receiver on images larger than a band: the whole image's result."""

import subprocess
import sys

import pytest
import torch

from diffjscc.data.geometry import PaddedImages
from diffjscc.data.images import to_levels
from diffjscc.layers import banding
from diffjscc.refiners.latents import decode, encode
from diffjscc.refiners.sampling import SamplerConfig
from diffjscc.refiners.vae import CompactVAE
from peak import PEAK, needs_peak
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


@pytest.mark.parametrize("geometry", ["reflect", "released"])
@pytest.mark.parametrize("levels", [((0.2, 0.9), (0.6, 0.0)), ((0.2, 0.0), (0.6, 0.0))])
def test_levels_of_an_image_are_those_of_its_floats(
    geometry: str, levels: tuple[tuple[float, float], ...]
) -> None:
    torch.manual_seed(0)
    sampler = SamplerConfig("ddpm", 2, "initial", levels)
    refiner = make_refiner(sampler=sampler, geometry=geometry)
    initial, received = torch.rand(2, 3, 20, 28), receive([3.0, 30.0])
    whole = refiner.refine(initial, received, generators(1, 2)).image
    found = refiner.refine_to_levels(initial, received, generators(1, 2)).image
    assert torch.equal(found, to_levels(whole))


def test_levels_that_would_not_be_finite_are_refused() -> None:
    refiner = make_refiner(sampler=SamplerConfig("ddpm", 1))
    next(refiner.vae.decoder.parameters()).data.fill_(torch.nan)
    with pytest.raises(ValueError, match="hold NaN"):
        refiner.refine_to_levels(torch.rand(1, 3, 16, 16), receive([3.0]), generators(1))


PROGRAM = (
    PEAK
    + """
import torch
from diffjscc import AWGN
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.schemes.loader import load_scheme
from diffjscc.schemes.options import RefinerOptions

scheme = load_scheme("compact", "1/128", "diffusion", RefinerOptions(), "cpu")
scheme.refiner.predict_noise = lambda z_t, *_: torch.zeros_like(z_t)  # which takes no memory
peaks = []
for height in (1536, 4096):
    evaluator, device = MetricEvaluator(()), torch.device("cpu")
    link = Link("", scheme, AWGN(1.0), "awgn", 1.0, 0, evaluator, device)
    image = torch.randint(0, 256, (3, height, 1024), dtype=torch.uint8)
    link.transmit([SourceImage("noise", image)], [0])
    peaks.append(peak())
print((peaks[1] - peaks[0]) * 1024 / ((4096 - 1536) * 1024))
"""
)


@needs_peak
def test_a_pixel_of_a_large_image_takes_few_bytes() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    # The initial image's 12 as floats, 9 as levels with the original and the final one, some
    # latents; the final image as floats would take 9 more.
    assert float(found.stdout) < 27

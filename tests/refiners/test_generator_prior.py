"""Generator-prior receiver: it finds what a tiny generator made, and keeps what it is to keep."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffjscc import AWGN, Scheme, psnr
from diffjscc.configuration import check
from diffjscc.layers.block_means import pool
from diffjscc.pretrained.vae_generator import VAEGenerator
from diffjscc.refiners.generator_prior import (
    GeneratorConfig,
    GeneratorInversion,
    InvertibleGenerator,
)
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.loader import SchemeLoader
from toy_codec import RATE, Pixels, smooth_images

SIDE, LATENT = 32, 12


class Waves(nn.Module):
    """A linear generator: each number of the latent weighs a random smooth grey image."""

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        self.calls = 0
        coarse = torch.randn(LATENT, 1, 4, 4, generator=torch.Generator().manual_seed(3))
        self.basis = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")

    def latents(self, size: tuple[int, int], batch: int) -> Tensor:
        del size
        return torch.full((batch, LATENT), 0.1)

    def forward(self, latents: Tensor) -> Tensor:
        self.calls += 1
        grey = 0.5 + 0.06 * torch.einsum("bl,lchw->bchw", latents, self.basis)
        return grey.expand(-1, 3, -1, -1)


class Invertible(Waves):
    def invert(self, images: Tensor) -> Tensor:
        flat = self.basis.flatten(1).T
        target = (images.mean(1).flatten(1) - 0.5).T / 0.06
        return torch.linalg.lstsq(flat, target).solution.T


def own_images() -> Tensor:
    latents = torch.randn(2, LATENT, generator=torch.Generator().manual_seed(4))
    return Waves()(latents).clamp(0, 1)


def received_psnr(inversion: GeneratorInversion, images: Tensor) -> tuple[Tensor, Tensor]:
    scheme = Scheme(Pixels(), RATE, inversion)
    result = scheme(images, AWGN(0.0), torch.Generator().manual_seed(5))
    return psnr(result.initial, images), psnr(result.image, images)


@pytest.mark.parametrize(
    "weights", [{"mse": 1.0}, {"mse": 0.0, "likelihood": 1.0}], ids=["mse", "likelihood"]
)
def test_images_in_its_range_are_found(weights: dict[str, float]) -> None:
    config = GeneratorConfig(iterations=60, learning_rate=0.1, lpips=0.0, **weights)  # type: ignore[arg-type]
    initial, final = received_psnr(GeneratorInversion(Pixels(), Waves(), config), own_images())
    assert (final > initial + 3).all()


def test_a_trained_encoder_is_where_the_search_starts() -> None:
    generator = Invertible()
    assert isinstance(generator, InvertibleGenerator)
    alone = GeneratorInversion(Pixels(), generator, GeneratorConfig(iterations=0))
    initial, final = received_psnr(alone, own_images())
    assert generator.calls == 1
    assert (final > initial + 3).all()


def test_range_share_keeps_block_means_of_the_initial_image() -> None:
    images = smooth_images()
    scheme = Scheme(Pixels(), RATE)
    received = scheme.send(images, AWGN(20.0), torch.Generator().manual_seed(6))
    initial = scheme.codec.decode(received) * 0.5 + 0.25
    errors = []
    for share in (0.0, 0.5, 1.0):
        config = GeneratorConfig(iterations=0, range_share=share, factor=8)
        image = GeneratorInversion(Pixels(), Waves(), config).refine(initial, received).image
        errors.append((pool(image, 8) - pool(initial, 8)).abs().max().item())
    assert errors[2] < 1e-5 < errors[1] < errors[0]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=1e-3)


def test_perceptual_distance_has_its_weight() -> None:
    def brightness(images: Tensor, references: Tensor) -> Tensor:
        return (images - references).mean(dim=(1, 2, 3)).square()

    scheme = Scheme(Pixels(), RATE)
    received = scheme.send(own_images(), AWGN(10.0), torch.Generator().manual_seed(7))
    initial = scheme.codec.decode(received)
    config = GeneratorConfig(mse=0.0, lpips=2.0)
    inversion = GeneratorInversion(Pixels(), Waves(), config, brightness)
    loss = inversion.loss(own_images(), initial, received)
    sent = scheme.codec.encode(own_images(), received.state, RATE)
    again = scheme.codec.decode(sent.received(sent.values, received.state))
    torch.testing.assert_close(loss, 2 * brightness(again, initial))


@pytest.mark.parametrize("side", [16, 40])
def test_generated_images_of_another_size_are_fitted(side: int) -> None:
    inversion = GeneratorInversion(Pixels(), Waves(side), GeneratorConfig(iterations=1, lpips=0))
    _, final = received_psnr(inversion, smooth_images())
    assert torch.isfinite(final).all()


def test_what_is_no_image_is_refused() -> None:
    class Broken(Waves):
        def forward(self, latents: Tensor) -> Tensor:
            return super().forward(latents) * torch.nan

    inversion = GeneratorInversion(Pixels(), Broken(), GeneratorConfig(iterations=0))
    with pytest.raises(ValueError, match="Broken generated"):
        received_psnr(inversion, smooth_images())
    for name, value in {"iterations": -1, "range_share": 2.0, "factor": 1, "lpips": -1.0}.items():
        with pytest.raises(ValueError, match=name):
            GeneratorConfig(**{name: value})  # type: ignore[arg-type]


def test_sweeps_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "class Latentless:\n    pass\n"
    (tmp_path / "my_generator_parts.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    values = {
        "kind": "generator",
        "factory": "diffjscc.pretrained.vae_generator:VAEGenerator",
        "inversion": {"iterations": 1, "lpips": 0.0, "range_share": 0.25},
    }
    scheme = SchemeLoader("cpu").at(check(SchemeConfig, values, "scheme"), "1/64")
    assert isinstance(scheme.refiner, GeneratorInversion)
    assert isinstance(scheme.refiner.generator, VAEGenerator)
    assert "VAEGenerator" in scheme.provenance
    image = smooth_images(1, 64)[..., :50]
    assert scheme(image, AWGN(5.0), torch.Generator()).image.shape == image.shape
    broken = check(SchemeConfig, values | {"factory": "my_generator_parts:Latentless"}, "scheme")
    with pytest.raises(ValueError, match="lacks latents"):
        SchemeLoader("cpu").at(broken, "1/64")
    with pytest.raises(ValueError, match="kind: generator and factory"):
        check(SchemeConfig, {"kind": "generator"}, "scheme")
    with pytest.raises(ValueError, match="inversion is for generator"):
        check(SchemeConfig, {"kind": "isec", "inversion": {"iterations": 1}}, "scheme")

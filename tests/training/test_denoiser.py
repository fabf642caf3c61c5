"""The bias-free denoiser: homogeneous, for any size, trained in a moment, and it denoises."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffjscc.pretrained.networks import DENOISER, load_network
from diffjscc.refiners.bias_free import BiasFreeDenoiser, coarse_noise
from diffjscc.training import denoiser
from diffjscc.training.config import load_config
from diffjscc.training.denoiser_config import DenoiserConfig, NoiseConfig

SETTINGS = (
    "data.crop=32",
    "run.iterations=150",
    "run.batch=4",
    "run.ema=0.8",
    "run.validate_every=150",
    "denoiser.widths=[12, 16]",
    "optimiser.learning_rate=8e-3",
    "noise.coarseness=[1]",
    "optimiser.warmup=2",
)


def random_denoiser() -> BiasFreeDenoiser:
    torch.manual_seed(0)
    made = BiasFreeDenoiser(widths=(8, 12, 16))
    torch.nn.init.normal_(made.head.weight, std=0.05)
    return made


@pytest.mark.parametrize("factor", [0.0, 0.25, 7.0])
@torch.no_grad()
def test_it_is_homogeneous(factor: float) -> None:
    images = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    network = random_denoiser()
    assert (network(images) - images).abs().max() > 0.01
    torch.testing.assert_close(network(factor * images), factor * network(images))


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (33, 16)])
@torch.no_grad()
def test_any_size(size: tuple[int, int]) -> None:
    assert random_denoiser()(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_coarse_noise_has_unit_deviation_and_its_grain(factor: int) -> None:
    noise = coarse_noise(torch.Size((1, 3, 96, 90)), factor, torch.Generator().manual_seed(2))
    assert noise.shape == (1, 3, 96, 90)
    assert noise.std().item() == pytest.approx(1, abs=0.1)
    shifted = (noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean()
    assert (shifted > 0.5) == (factor > 1)


def test_noise_is_that_of_its_seed() -> None:
    images, seeds = torch.full((3, 3, 64, 64), 0.5), torch.tensor([5, 6, 5])
    added = denoiser.noisy(images, seeds, NoiseConfig(deviation=(0.1, 0.3))) - images
    assert torch.equal(added[0], added[2])
    assert not torch.equal(added[0], added[1])
    assert all(0.07 < one.std() < 0.36 for one in added)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        generator = torch.Generator().manual_seed(number)
        coarse = torch.rand(1, 3, 5, 5, generator=generator)
        image = torch.nn.functional.interpolate(coarse, size=(48, 48), mode="bilinear")[0]
        pixels = (255 * image).byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{number}.png")
    return folder


def train(output: Path, images: Path, *settings: str, init: str | None = None) -> Path:
    overrides = [*SETTINGS, f"data.train={images}", *settings]
    return denoiser.train(load_config(DenoiserConfig, "compact-denoiser", overrides), output, init)


@torch.no_grad()
def error(network: torch.nn.Module, image: Tensor) -> float:
    noise = 0.15 * torch.randn(image.shape, generator=torch.Generator().manual_seed(9))
    return (network(image + noise) - image).square().mean().item() / 0.15**2


@pytest.mark.usefixtures("on_cpu")
def test_training_makes_a_denoiser_and_resumes(tmp_path: Path, photographs: Path) -> None:
    weights = train(tmp_path / "run", photographs, f"data.validation={photographs}")
    made = load_network(weights, DENOISER, lambda tensor: tensor)
    image = torch.from_numpy(np.asarray(Image.open(photographs / "1.png")).copy())
    assert error(made, image.permute(2, 0, 1)[None] / 255) < 0.7
    assert "psnr at 0.3" in (tmp_path / "run" / "log.jsonl").read_text()
    further = train(tmp_path / "more", photographs, "run.iterations=1", init=str(weights))
    assert load_network(further, DENOISER, lambda tensor: tensor).down[0].out_channels == 16
    assert train(tmp_path / "run", photographs, f"data.validation={photographs}") == weights


def test_settings_that_cannot_be_are_refused() -> None:
    for setting in ("noise.deviation=[0.3, 0.1]", "noise.coarseness=[]", "denoiser.widths=[]"):
        with pytest.raises(ValueError, match=setting.split("=")[0].split(".")[1]):
            load_config(DenoiserConfig, "compact-denoiser", ["data.train=.", setting])

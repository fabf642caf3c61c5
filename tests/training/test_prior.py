"""A VAE and a latent diffusion prior, trained from nothing at toy size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffjscc.metrics.lpips import LPIPS
from diffjscc.refiners.latents import encode
from diffjscc.training import prior, vae
from diffjscc.training.config import load_config
from diffjscc.training.frozen import load_prior, load_vae
from diffjscc.training.prior_config import PriorConfig, VAEConfig

WIDTHS = "[16, 32]"
VAE_SETTINGS = [
    "vae.latent_channels=4",
    f"vae.widths={WIDTHS}",
    "vae.encoder_blocks=[1, 1]",
    "vae.decoder_blocks=[1, 1, 1]",
    "vae.fine_width=8",
    "data.crop=48",
    "data.packed=null",
    "run.batch=4",
    "run.iterations=12",
    "run.log_every=1",
    "run.validate_every=6",
    "run.ema=0.5",
    "loss.adversarial_start=4",
    "loss.discriminator_width=8",
    "optimiser.learning_rate=2e-3",
    "optimiser.warmup=0",
    "optimiser.tail=0",
]
PRIOR_SETTINGS = [
    "unet.widths=[16, 16]",
    "unet.attention=[false, true]",
    "unet.head_width=8",
    "unet.norm_groups=4",
    "data.crop=64",
    "run.batch=8",
    "run.iterations=60",
    "run.log_every=10",
    "run.validate_every=60",
    "run.precision=no",
    "run.ema=0.5",
    "optimiser.learning_rate=3e-3",
    "optimiser.warmup=0",
    "optimiser.tail=0",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six smooth images with an edge each."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(6):
        coarse = Image.fromarray(rng.integers(256, size=(5, 6, 3), dtype=np.uint8))
        image = np.array(coarse.resize((96, 80), Image.Resampling.BICUBIC))
        image[:, 20 + 8 * number :] //= 2
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained LPIPS: its weights may be missing here, and do not matter."""

    def load(net: str, folder: Path | None = None) -> LPIPS:
        del net, folder
        torch.manual_seed(0)
        metric = LPIPS("squeeze")
        for head in metric.heads:
            head.weight.data.abs_()
        return metric

    monkeypatch.setattr(LPIPS, "load", load)


def train_vae(output: Path, images: Path, *settings: str, init: str | None = None) -> Path:
    overrides = [*VAE_SETTINGS, f"data.train={images}", f"data.validation={images}", *settings]
    return vae.train(load_config(VAEConfig, "compact-vae", overrides), output, init)


def train_prior(output: Path, images: Path, source: Path, *settings: str) -> Path:
    overrides = [
        *PRIOR_SETTINGS,
        f"data.train={images}",
        f"vae={source}",
        f"latents={output.parent / 'latents'}",
        *settings,
    ]
    return prior.train(load_config(PriorConfig, "compact-prior", overrides), output)


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("lpips")
def test_vae_learns_resumes_exactly_and_standardises(images: Path, tmp_path: Path) -> None:
    whole = train_vae(tmp_path / "whole", images)
    losses = [row for row in rows(tmp_path / "whole") if "l1" in row]
    assert losses[-1]["l1"] < losses[0]["l1"]
    assert "discriminator" not in losses[3]
    assert 0 < losses[4]["discriminator"] < 3

    train_vae(tmp_path / "parts", images, "run.iterations=5")
    parts = train_vae(tmp_path / "parts", images)
    one, other = (load_vae(str(folder)).state_dict() for folder in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())

    extra = "loss.extra=[{factory: 'own_parts:edge_loss', weight: 0}]"
    train_vae(tmp_path / "extra", images, "run.iterations=1", extra)
    assert rows(tmp_path / "extra")[0]["own_parts:edge_loss"] > 0

    frozen = train_vae(tmp_path / "frozen", images, "freeze_encoder=true", init=str(whole))
    now = load_vae(str(frozen)).state_dict()
    same = {name for name, value in one.items() if torch.equal(value, now[name])}
    assert {name.partition(".")[0] for name in one.keys() - same} == {"decoder"}
    assert {name for name in one if not name.startswith("decoder.")} <= same


def test_latents_are_standardised_with_the_posterior_that_was_asked_for() -> None:
    torch.manual_seed(0)
    network = load_config(VAEConfig, "compact-vae", [*VAE_SETTINGS, "data.train=."]).vae
    model = vae.CompactVAE(**network.model_dump())
    images = torch.rand(16, 3, 64, 64)
    with torch.no_grad():
        for _ in range(1200):  # running averages have a memory of 100
            model.quant_conv(model.encoder(2 * images - 1))
    posterior = encode(model.eval(), images, tile=64)
    assert posterior.mean.shape == (16, 4, 4, 4)
    assert posterior.mean.mean(dim=(0, 2, 3)).abs().max() < 0.02
    assert (posterior.mean.std(dim=(0, 2, 3)) - 1).abs().max() < 0.02
    assert torch.allclose(posterior.deviation, torch.tensor(0.1))


@pytest.mark.usefixtures("lpips")
def test_prior_learns_resumes_exactly_and_loads(images: Path, tmp_path: Path) -> None:
    source = train_vae(tmp_path / "vae", images)
    whole = train_prior(tmp_path / "whole", images, source)
    losses = [row["loss"] for row in rows(tmp_path / "whole")]
    assert losses[-1] < 0.8 * losses[0]

    train_prior(tmp_path / "parts", images, source, "run.iterations=25")
    parts = train_prior(tmp_path / "parts", images, source)
    one, other = (load_prior(str(folder)) for folder in (whole, parts))
    ours, theirs = one.unet.state_dict(), other.unet.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert one.text is None
    assert one.scheduler.config.variance_type == "fixed_small"

    with pytest.raises(ValueError, match=r"made with other settings .*short_side"):
        train_prior(tmp_path / "other", images, source, "short_side=64")


def test_prior_settings_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="give one for each width"):
        load_config(PriorConfig, "compact-prior", ["unet.attention=[true]"])

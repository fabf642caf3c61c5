"""Adversarial training: two networks against each other, exactly resumable, for every codec."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from diffjscc.data.sources import open_source
from diffjscc.metrics.lpips import LPIPS
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.pretrained import load_codec, save_codec
from diffjscc.training.adversarial import AdversarialLosses, build, train
from diffjscc.training.codec_config import AdversarialConfig
from diffjscc.training.config import load_config, shipped_configs
from diffjscc.training.transmission import TransmissionBatches, transmit

COMPACT = {"class": "CompactJSCC", "widths": [16, 24], "encoder_blocks": [1, 1]}
COMPACT |= {"decoder_blocks": [1, 1]}
CODECS = {
    "compact": COMPACT,
    "deepjscc": {"class": "DeepJSCC", "base_width": 8, "encoder_blocks": 1, "channels": 8},
    "swin": {"class": "SwinJSCC", "window": 2, "trained_size": [32, 32]}
    | {f"{end}_widths": [8] * 4 for end in ("encoder", "decoder")}
    | {f"{end}_depths": [1] * 4 for end in ("encoder", "decoder")}
    | {f"{end}_heads": [2] * 4 for end in ("encoder", "decoder")},
}
Interrupted = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour gradients under a fine grain, which no codec of this rate can send."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(6):
        corners = rng.uniform(40, 215, (2, 2, 3)).astype(np.uint8)
        smooth = Image.fromarray(corners).resize((80, 64), Image.Resampling.BILINEAR)
        grain = rng.choice([-20.0, 20.0], (64, 80, 1))
        Image.fromarray(np.uint8(np.asarray(smooth) + grain)).save(folder / f"{number}.png")
    return folder


def toy(images: Path, folder: Path, codec: str = "compact", **run: object) -> Path:
    """A config file."""
    config = {
        "codec": CODECS[codec],
        "data": {"train": str(images), "crop": 32},
        "channel": {"snr_db": [0, 12]},
        "adversary": {"weight": 1e-2, "width": 8},
        "optimiser": {"learning_rate": 2e-3, "clip": 1.0},
        "run": {"iterations": 12, "batch": 4, "checkpoint_every": 4, "log_every": 2, "ema": 0.9}
        | run,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def rows(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def checkpoint(output: Path) -> dict[str, dict[str, Tensor]]:
    state: dict[str, dict[str, Tensor]] = torch.load(output / "checkpoint.pt", weights_only=True)
    return state


def batch(config: AdversarialConfig, rates: tuple[Fraction, ...]) -> list[Tensor]:
    """Crops and the conditions that they are sent under, as the losses take them."""
    source = open_source(config.data.train)
    made = TransmissionBatches(source, config, rates).batch_at(0)
    return [made.images, made.snr_db, made.rates, made.seeds]


def gradients(losses: AdversarialLosses, network: str) -> list[Tensor]:
    return [p.grad.clone() for p in losses.trained[network].parameters() if p.grad is not None]


def test_each_side_follows_its_own_loss(images: Path, tmp_path: Path) -> None:
    path = str(toy(images, tmp_path))
    by_weight = {}
    for weight in (0.0, 0.1, 0.2):
        settings = [f"adversary.weight={weight}", "rate_shares=[0.5, 0.5, 0, 0]"]
        config = load_config(AdversarialConfig, path, settings)
        torch.manual_seed(0)
        networks = build(config, None).eval()  # so that all three have one spectral norm
        sent = batch(config, networks.codec.rates)
        losses, mse = networks(*sent, step=0)
        losses["loss"].backward()
        by_weight[weight] = networks, losses
        torch.testing.assert_close(losses["distortion"], mse.mean())
    (alone, _), (once, losses), (twice, _) = by_weight.values()

    alone.zero_grad()
    images_hat, _ = transmit(alone.codec, config.channel, *sent)
    (images_hat - sent[0]).square().mean().backward()
    distortion = gradients(alone, "codec")
    sides = zip(distortion, gradients(once, "codec"), gradients(twice, "codec"), strict=True)
    added = [(a - d, b - d) for d, a, b in sides]
    assert max(float(a.abs().max()) for a, _ in added) > 1e-4
    for single, double in added:  # the adversarial loss counts in proportion to α, and no more
        torch.testing.assert_close(double, 2 * single, atol=1e-6, rtol=1e-3)

    own = gradients(once, "discriminator")
    for ours, theirs in zip(own, gradients(twice, "discriminator"), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert max(float(gradient.abs().max()) for gradient in own) > 0
    assert losses["loss"].item() == pytest.approx(
        (losses["distortion"] + 0.1 * losses["adversarial"] + losses["discriminator"]).item()
    )


def test_a_run_learns_and_leaves_what_it_says(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LPIPS, "load", LPIPS)
    settings = ["rate_shares=[0.5, 0.5, 0, 0]", "adversary.start=50"]
    settings += [f"data.validation={images}", "data.validation_images=2"]
    path = str(toy(images, tmp_path, iterations=150, log_every=10, validate_every=75))
    logged = {}
    for weight in (0, 0.02):
        config = load_config(AdversarialConfig, path, [*settings, f"adversary.weight={weight}"])
        weights = train(config, tmp_path / f"{weight}")
        logged[weight] = [row for row in rows(tmp_path / f"{weight}") if "distortion" in row]
    assert logged[0][:5] == logged[0.02][:5]  # as long as the adversarial loss does not count
    assert logged[0][-1]["distortion"] < 0.7 * logged[0][0]["distortion"]
    assert logged[0][-1]["discriminator"] < 0.5  # grain is easily recognised
    assert logged[0.02][-1]["discriminator"] > 0.8
    assert logged[0.02][-1]["distortion"] > logged[0][-1]["distortion"]  # what that costs
    for row in logged[0.02]:
        alone = row["distortion"] + row["discriminator"]
        adversarial = 0.02 * row["adversarial"] if row["step"] > 50 else 0
        assert row["loss"] == pytest.approx(alone + adversarial, abs=1e-5)

    assert {"learning rate", "training psnr/rate 1/128"} <= logged[0][0].keys()
    validated = {name for row in rows(tmp_path / "0.02") for name in row if " at " in name}
    assert {"psnr/rate 1/128 at 6 dB", "lpips/rate 1/64 at 12 dB"} <= validated
    assert not any("1/32" in name for name in validated)
    assert list((tmp_path / "0.02" / "tensorboard").glob("events*"))
    average = checkpoint(tmp_path / "0.02")["ema"]
    for name, value in load_codec(weights).state_dict().items():
        assert torch.equal(average[f"codec.{name}"], value), name


def test_an_interrupted_run_resumes_bit_for_bit(
    images: Path, tmp_path: Path, interrupted: Interrupted
) -> None:
    config = load_config(AdversarialConfig, str(toy(images, tmp_path)))
    train(config, tmp_path / "whole")
    with interrupted(6):
        train(config, tmp_path / "killed")
    assert not (tmp_path / "killed" / "weights").exists()
    assert checkpoint(tmp_path / "killed")["step"] == 4
    train(config, tmp_path / "killed")
    whole, resumed = (checkpoint(tmp_path / name) for name in ("whole", "killed"))
    for part in ("model", "ema"):
        for name, value in whole[part].items():
            assert torch.equal(resumed[part][name], value), name
    logs = [(tmp_path / n / "log.jsonl").read_text() for n in ("whole", "killed")]
    assert logs[0] == logs[1]


def test_processes_share_batches(images: Path, tmp_path: Path) -> None:
    config = load_config(AdversarialConfig, str(toy(images, tmp_path)))
    rates = tuple(Fraction(n, 256) for n in (1, 2, 3, 4))
    batches = TransmissionBatches(open_source(config.data.train), config, rates)
    whole, halves = batches.batch_at(5), [batches.batch_at(5, n, 2) for n in range(2)]
    for name in ("images", "snr_db", "rates", "seeds"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(h, name) for h in halves]))


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_with_a_frozen_encoder_or_without(
    codec: str, images: Path, tmp_path: Path
) -> None:
    path = str(toy(images, tmp_path, codec, iterations=3))
    torch.manual_seed(5)
    save_codec(build_codec(CODECS[codec]), tmp_path / "start")
    before = load_codec(tmp_path / "start").state_dict()
    changed = {}
    for frozen in (False, True):
        config = load_config(AdversarialConfig, path, [f"freeze_encoder={frozen}"])
        weights = train(config, tmp_path / f"{frozen}", init=str(tmp_path / "start"))
        after = load_codec(weights).state_dict()
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        changed[frozen] = {name.partition(".")[0] for name in moved}
    assert changed == {False: {"encoder", "decoder"}, True: {"decoder"}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adversary.wieght=1", "unknown key 'adversary.wieght'; did you mean 'weight'"),
        ("adversary.weight=-1", "adversary.weight = -1"),
        ("adversary.start=soon", "adversary.start = 'soon'"),
        ("rate_shares=[1, 0]", r"rate_shares are \[1.0, 0.0\]; give 4 numbers that add up to 1"),
        ("codec.class=JPEG", "codec class 'JPEG' is unknown"),
        ("codec={class: DeepJSCC}", "has class CompactJSCC, the config DeepJSCC; set codec.class"),
        ("codec.widths=[16, 32]", r"has widths \(16, 24\), the config \(16, 32\); set"),
    ],
)
def test_bad_settings_are_named(override: str, message: str, images: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_codec(build_codec(COMPACT), tmp_path / "start")
    with pytest.raises(ValueError, match=message):
        train(
            load_config(AdversarialConfig, str(toy(images, tmp_path)), [override]),
            tmp_path / "run",
            init=str(tmp_path / "start"),
        )
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_another_weight_does_not_continue_a_run(images: Path, tmp_path: Path) -> None:
    path = str(toy(images, tmp_path, iterations=2))
    train(load_config(AdversarialConfig, path), tmp_path / "run")
    other = load_config(AdversarialConfig, path, ["adversary.weight=0.5"])
    with pytest.raises(ValueError, match=r"adversary.weight: 0.01 then, 0.5 now"):
        train(other, tmp_path / "run")


@pytest.mark.parametrize("name", shipped_configs(AdversarialConfig))
def test_shipped_configs_fit_the_weights_they_are_for(name: str) -> None:
    config = load_config(AdversarialConfig, name)
    assert config.adversary.weight > 0
    networks = build(config, "compact")
    for key, value in load_codec("compact").state_dict().items():
        assert torch.equal(networks.codec.state_dict()[key], value), key

"""Training: configs are checked, runs learn, resume bit-exactly after a kill, and scale out."""

import json
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from gradients import STANDSTILL, assert_same_gradients
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from diffjscc.cli import app
from diffjscc.pretrained.pretrained import load_codec
from diffjscc.training.codec_config import JSCCConfig, LossConfig
from diffjscc.training.config import OptimiserConfig, load_config, shipped_configs
from diffjscc.training.jscc import train
from diffjscc.training.losses import distortion
from diffjscc.training.optimiser import Optimiser, learning_rate_at
from processes import Started, run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth colour gradients: easy to learn in a few steps."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(6):
        corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.uint8)
        image = Image.fromarray(corners).resize((80, 64), Image.Resampling.BILINEAR)
        image.save(folder / f"{number}.png")
    return folder


def toy(images: Path, folder: Path, **run: object) -> Path:
    config = {
        "codec": {"class": "CompactJSCC", "widths": [16, 24], "encoder_blocks": [1, 1]}
        | {"decoder_blocks": [1, 1]},
        "data": {"train": str(images), "crop": 32, "validation": str(images)}
        | {"validation_images": 1},
        "loss": {"name": "log-mse"},
        "optimiser": {"learning_rate": 2e-3, "clip": 1.0, "muon": ["expand", "project"]},
        "run": {"iterations": 12, "batch": 4, "checkpoint_every": 4, "log_every": 2}
        | {"validate_every": 6}
        | run,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def command(config: Path, output: Path, *more: str) -> list[object]:
    return ["train", "jscc", "--config", config, "-o", output, *more]


def weights_of(output: Path) -> dict[str, torch.Tensor]:
    return load_codec(output / "weights").state_dict()


def test_a_run_learns_and_leaves_what_it_says(images: Path, tmp_path: Path) -> None:
    config = load_config(JSCCConfig, str(toy(images, tmp_path, iterations=60)))
    weights = train(config, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3
    assert {"learning rate", "training psnr/rate 1/16"} <= rows[1].keys()
    assert any("psnr/rate 1/128 at 0 dB" in row for row in rows)
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert load_codec(weights).rates == load_codec(weights).rates
    assert (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.usefixtures("on_cpu")
def test_resume_after_kill_is_bit_exact(images: Path, tmp_path: Path) -> None:
    config = toy(images, tmp_path, iterations=60)
    run(*command(config, tmp_path / "whole"), said=tmp_path / "said")
    killed = Started(*command(config, tmp_path / "killed"), said=tmp_path / "said")
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    assert not (tmp_path / "killed" / "weights").exists(), "killed too late to mean anything"
    assert torch.load(checkpoint, weights_only=True)["step"] < 60
    run(*command(config, tmp_path / "killed"), said=tmp_path / "said")
    whole, resumed = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
    logs = [(tmp_path / n / "log.jsonl").read_text() for n in ("whole", "killed")]
    assert logs[0] == logs[1]


@pytest.mark.usefixtures("on_cpu")
def test_two_processes_train_like_one(images: Path, tmp_path: Path) -> None:
    config = toy(images, tmp_path, iterations=8)
    for number, name in enumerate(("one", "two"), 1):
        words = command(config, tmp_path / name, STANDSTILL)
        run(*words, processes=number, said=tmp_path / "said")
    assert_same_gradients(tmp_path / "one", tmp_path / "two")


def test_another_config_does_not_continue_a_run(images: Path, tmp_path: Path) -> None:
    path = str(toy(images, tmp_path))
    train(load_config(JSCCConfig, path), tmp_path / "run")
    with pytest.raises(ValueError, match=r"optimiser.learning_rate: 0.002 then, 0.01 now"):
        train(load_config(JSCCConfig, path, ["optimiser.learning_rate=0.01"]), tmp_path / "run")
    train(load_config(JSCCConfig, path, ["run.iterations=14"]), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 14


def test_init_starts_from_other_weights(images: Path, tmp_path: Path) -> None:
    path = str(toy(images, tmp_path, iterations=1))
    first = train(load_config(JSCCConfig, path), tmp_path / "first")
    frozen = load_config(JSCCConfig, path, ["optimiser.learning_rate=1e-12"])
    second = train(frozen, tmp_path / "second", init=str(first))
    for name, value in load_codec(first).state_dict().items():
        torch.testing.assert_close(load_codec(second).state_dict()[name], value)


@pytest.mark.parametrize("name", shipped_configs(JSCCConfig))
def test_shipped_configs_are_valid(name: str) -> None:
    config = load_config(JSCCConfig, name)
    # A few layers learn in few iterations.
    assert config.run.iterations >= (200 if config.optimiser.only else 2_000)


def test_the_paper_s_recipe() -> None:
    config = load_config(JSCCConfig, "paper-jscc")
    assert (config.run.iterations, config.run.batch, config.data.crop) == (100_000, 32, 256)
    assert (config.optimiser.learning_rate, config.optimiser.schedule) == (1e-3, "cosine")
    assert (config.channel.snr_db, config.loss.name) == ((0.0, 14.0), "mse")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.iteration=5", "unknown key 'run.iteration'; did you mean 'iterations'"),
        ("data.batch_size=2", "unknown key 'data.batch_size'; did you mean 'run.batch'"),
        ("run.iterations=-5", "run.iterations = -5"),
        ("run.iterations=many", "run.iterations = 'many'"),
        ("channel.snr_db=[5, 1]", "low, high"),
        ("loss.name=l3", "loss.name = 'l3'"),
        ("nothing", "not of the form key=value"),
        ("run.batch.size=3", "batch is not a section"),
        ("run.batch=[", "not valid YAML"),
    ],
)
def test_bad_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(JSCCConfig, "paper-jscc", [override])


def test_missing_and_broken_configs_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="neither a file nor one of compact-joint-jscc, compact-jscc"
    ):
        load_config(JSCCConfig, "paper-jsc")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_config(JSCCConfig, str(broken))
    broken.write_text("- a")
    with pytest.raises(ValueError, match="a mapping is needed"):
        load_config(JSCCConfig, str(broken))


def test_step_sizes() -> None:
    cosine = OptimiserConfig(learning_rate=1.0, schedule="cosine")
    assert learning_rate_at(0, 100, cosine) == 1
    assert learning_rate_at(50, 100, cosine) == pytest.approx(0.5)
    assert learning_rate_at(99, 100, cosine) < 1e-3
    tail = OptimiserConfig(learning_rate=1.0, warmup=10, schedule="linear-tail", tail=20)
    assert learning_rate_at(4, 100, tail) == 0.5
    assert learning_rate_at(50, 100, tail) == 1
    assert learning_rate_at(90, 100, tail) == 0.5


def test_muon_moves_matrices_alike_in_all_directions() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        OrderedDict(first=torch.nn.Linear(16, 32), second=torch.nn.Linear(32, 4))
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(64, 16) * torch.logspace(0, -1.5, 16)).square().mean().backward()
    config = OptimiserConfig(muon=("first",), learning_rate=1e-3)
    Optimiser(model, config).step(config.learning_rate)
    moved = {name: before[name] - value for name, value in model.state_dict().items()}
    stretch = torch.linalg.svdvals(moved["first.weight"]) / (1e-3 * 0.2 * 32**0.5)
    assert stretch[:4].min() > 0.6  # the second layer has rank 4, and so has this gradient
    assert stretch.max() < 1.3
    assert torch.allclose(moved["second.weight"].abs(), torch.tensor(1e-3), rtol=1e-2)  # Adam's
    for name, reason in (("third", "no weight is named so"), ("norm", "is for matrices")):
        model.add_module("norm", torch.nn.LayerNorm(4))
        with pytest.raises(ValueError, match=reason):
            Optimiser(model, OptimiserConfig(muon=(name,)))


def test_fresh_modules_move_faster() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"old": nn.Linear(3, 3), "texture": nn.Linear(3, 3)})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    config = OptimiserConfig(fresh=("texture",), fresh_factor=20, learning_rate=1e-3)
    Optimiser(model, config).step(1e-3)
    moved = {n: (p - before[n]).abs().mean().item() for n, p in model.named_parameters()}
    assert moved["texture.weight"] == pytest.approx(20 * moved["old.weight"], rel=0.01)
    assert moved["texture.bias"] == pytest.approx(20 * moved["old.bias"], rel=0.01)
    with pytest.raises(ValueError, match="fresh names 'head'"):
        Optimiser(model, OptimiserConfig(fresh=("head",)))


def test_only_some_modules_may_be_trained() -> None:
    model = nn.ModuleDict({"old": nn.Linear(3, 3), "texture": nn.Linear(3, 3)})
    optimiser = Optimiser(model, OptimiserConfig(only=("texture",)))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    (model["old"](torch.ones(3)) * model["texture"](torch.ones(3))).sum().backward()
    optimiser.step(1e-2)
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert moved == ["texture.weight", "texture.bias"]
    with pytest.raises(ValueError, match="only names 'head'"):
        Optimiser(model, OptimiserConfig(only=("head",)))


def test_log_mse_weighs_decibels_alike() -> None:
    mse = torch.tensor([0.1, 0.01], requires_grad=True)
    distortion(mse, LossConfig(name="log-mse", floor=1e-9)).backward()
    assert mse.grad is not None
    torch.testing.assert_close(mse.grad * mse.detach(), torch.tensor([0.5, 0.5]))


def test_without_images_the_error_names_the_ways_to_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", "jscc"])
    assert result.exit_code == 2
    told = " ".join(result.stderr.split())
    assert "data/train: does not exist" in told
    assert "data.train=FOLDER" in told
    assert "diffjscc fetch openimages" in told
    assert not list(tmp_path.iterdir())

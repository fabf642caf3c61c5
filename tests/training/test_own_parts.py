"""Codecs, datasets and losses of the user's own, by import string."""

from __future__ import annotations

import json
from pathlib import Path

import own_parts
import pytest
import torch
import yaml

from diffjscc.channels import AWGN
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.training import adversarial
from diffjscc.training.codec_config import AdversarialConfig, JSCCConfig
from diffjscc.training.config import load_config
from diffjscc.training.images import open_images
from diffjscc.training.jscc import train

OWN = "own_parts"


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts lie beside this file."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def toy(folder: Path) -> str:
    config = {
        "codec": {"kind": "custom", "factory": f"{OWN}:TinyCodec", "args": {"width": 8}},
        "data": {"train": f"{OWN}:make_dataset", "args": {"count": 4}, "crop": 32}
        | {"validation": f"{OWN}:make_dataset", "validation_images": 1},
        "loss": {
            "extra": [
                {"factory": f"{OWN}:edge_loss", "weight": 0.5},
                {"factory": f"{OWN}:PowerLoss", "weight": 2.0, "args": {"power": 3}},
            ]
        },
        "optimiser": {"learning_rate": 1e-2},
        "run": {"iterations": 30, "batch": 4, "log_every": 5, "validate_every": 30, "ema": 0.5},
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def rows(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def test_a_codec_of_one_s_own_is_trained_saved_and_loaded(tmp_path: Path) -> None:
    path = toy(tmp_path)
    config = load_config(JSCCConfig, path)
    weights = train(config, tmp_path / "run")
    logged = [row for row in rows(tmp_path / "run") if "loss" in row]
    assert logged[-1]["loss"] < 0.9 * logged[0]["loss"]
    assert {f"{OWN}:edge_loss", f"{OWN}:PowerLoss", "training psnr/rate 1/64"} <= logged[0].keys()
    assert "psnr/rate 1/64 at 7 dB" in {name for row in rows(tmp_path / "run") for name in row}

    with pytest.raises(ValueError, match="trust_custom_code=True"):
        DiffJSCC.from_pretrained(weights)
    scheme = DiffJSCC.from_pretrained(weights, trust_custom_code=True)
    image = scheme(torch.rand(1, 3, 40, 50), AWGN(10.0), torch.Generator().manual_seed(0)).image
    assert image.shape == (1, 3, 40, 50)

    still = load_config(JSCCConfig, path, ["optimiser.learning_rate=1e-12", "run.iterations=1"])
    train(still, tmp_path / "again", init=str(weights))
    state = torch.load(tmp_path / "again" / "checkpoint.pt", weights_only=True)["model"]
    for name, value in scheme.codec.state_dict().items():
        torch.testing.assert_close(state[name], value)
    wider = load_config(JSCCConfig, path, ["codec.args.width=16"])
    with pytest.raises(ValueError, match=r"codec of (?s:.)*down.weight"):
        train(wider, tmp_path / "wider", init=str(weights))


def test_extra_losses_add_to_the_sum(tmp_path: Path) -> None:
    """MSE + 0.5·edges + 2·cubes, on the first batch."""
    path = toy(tmp_path)
    settings = ["run.iterations=1", "run.log_every=1", "data.validation=null"]
    train(load_config(JSCCConfig, path, settings), tmp_path / "with")
    train(load_config(JSCCConfig, path, [*settings, "loss.extra=[]"]), tmp_path / "without")
    with_, without = rows(tmp_path / "with")[0], rows(tmp_path / "without")[0]
    added = 0.5 * with_[f"{OWN}:edge_loss"] + 2 * with_[f"{OWN}:PowerLoss"]
    assert with_["loss"] == pytest.approx(without["loss"] + added, rel=1e-5)


def test_adversarial_training_takes_extra_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["run.iterations=2", "run.log_every=1", "data.validation=null"]
    own = f"loss.extra=[{{factory: '{OWN}:edge_loss'}}]"
    compact = "codec={class: CompactJSCC, widths: [16, 24], encoder_blocks: [1, 1], "
    compact += "decoder_blocks: [1, 1]}"
    config = load_config(AdversarialConfig, toy(tmp_path), [*settings, own, compact])
    adversarial.train(config, tmp_path / "adversarial")
    assert f"{OWN}:edge_loss" in rows(tmp_path / "adversarial")[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("codec.factory=own_parts:Tiny", "own_parts has no 'Tiny'; did you mean 'TinyCodec'"),
        ("codec.factory=no_such_module:make", "there is no module 'no_such_module'"),
        ("codec.factory=TinyCodec", "not an import string"),
        ("codec.factory=own_parts:make_dataset", "could not be called"),
        ("codec={kind: custom, factory: 'own_parts:make_encoder'}", "Conv2d has no rates, encode"),
        ("codec={kind: custom, factory: 'own_parts:make_dataset'}", "gave list; a codec to train"),
        ("codec.arg={}", "unknown key 'arg'; did you mean 'args'"),
        ("data.train=own_parts:make_datasets", "did you mean 'make_dataset'"),
        ("data.args={size: 3}", "own_parts:make_dataset could not be called"),
        ("data.args={count: 0}", "own_parts:make_dataset: is empty"),
        ("loss.extra=[{factory: 'own_parts:per_image'}]", r"returned shape \(4,\); return a scal"),
        ("loss.extra=[{factory: 'own_parts:infinite'}]", "own_parts:infinite is (nan|inf|-inf)"),
        ("loss.extra=[{factory: 'own_parts:edge_loss', args: {a: 1}}]", "is a function"),
        ("loss.extra=[{factory: 'own_parts:PowerLoss', args: {a: 1}}]", "could not be called"),
        ("loss.extra=[{factory: 'own_parts:PowerLoss', weigth: 1}]", "did you mean 'weight'"),
    ],
)
def test_wrong_parts_are_named(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train(load_config(JSCCConfig, toy(tmp_path), [override]), tmp_path / "run")


def test_arguments_of_a_path_are_refused(tmp_path: Path) -> None:
    config = load_config(JSCCConfig, toy(tmp_path), [f"data.train={tmp_path}"])
    with pytest.raises(ValueError, match=r"data\.args are for an import string"):
        open_images(config.data)


def test_a_dataset_may_be_an_object(tmp_path: Path) -> None:
    settings = ["run.iterations=2", "data.validation=null"]
    named = load_config(JSCCConfig, toy(tmp_path), settings)
    train(named, tmp_path / "named")
    given = load_config(JSCCConfig, toy(tmp_path), [*settings, "data.train=nowhere"])
    train(given, tmp_path / "given", dataset=own_parts.make_dataset(4))
    states = [torch.load(tmp_path / n / "checkpoint.pt")["model"] for n in ("named", "given")]
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name

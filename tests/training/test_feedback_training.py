"""Training of rounds with feedback: resumable, refused in words, and worth its symbols."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from diffjscc import AWGN, DiffJSCC, Scheme
from diffjscc.cli import app
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.codecs.feedback import FeedbackJSCC
from diffjscc.evaluation.evaluate import evaluate
from diffjscc.pretrained.offered import offered_rates
from diffjscc.pretrained.pretrained import load_codec, save_codec
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.loader import SchemeLoader
from diffjscc.training.codec_config import FeedbackTrainingConfig
from diffjscc.training.config import load_config, shipped_configs
from diffjscc.training.feedback import train

Interrupted = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth images with a busy patch at a place of its own in each."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(6):
        corners = rng.uniform(60, 195, (2, 2, 3)).astype(np.uint8)
        pixels = np.array(Image.fromarray(corners).resize((96, 64), Image.Resampling.BILINEAR))
        top, left = rng.integers(0, 3) * 16, rng.integers(0, 5) * 16
        waves = 50 * np.sin(np.arange(16) * rng.uniform(0.4, 0.8))[:, None, None]
        patch = pixels[top : top + 16, left : left + 16] + waves
        pixels[top : top + 16, left : left + 16] = patch.clip(0, 255)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a first round: the block DCT."""
    torch.manual_seed(0)
    config = CompactConfig(
        rate_channels=(4, 8), widths=(8, 8), encoder_blocks=(0, 0), decoder_blocks=(0, 0)
    )
    folder = tmp_path_factory.mktemp("first")
    save_codec(CompactJSCC(config), folder)
    return folder


def toy(images: Path, first: Path, folder: Path, **run: object) -> Path:
    """A config file."""
    config = {
        "codec": {"rounds": 2, "functions": 24, "widths": [16, 8], "blocks": [1, 1]},
        "first": str(first),
        "data": {"train": str(images), "crop": 64},
        "channel": {"snr_db": [0, 12]},
        "loss": {"name": "log-mse", "floor": 1e-4},
        "optimiser": {"learning_rate": 5e-3, "clip": 1.0},
        "run": {"iterations": 8, "batch": 4, "checkpoint_every": 4, "log_every": 2, "ema": 0.9}
        | run,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def trained(images: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a toy that is trained for some seconds."""
    folder = tmp_path_factory.mktemp("trained")
    config = toy(images, first, folder, iterations=50)
    return train(load_config(FeedbackTrainingConfig, str(config)), folder / "run")


def test_rounds_with_feedback_beat_the_same_symbols_sent_at_once(
    trained: Path, images: Path
) -> None:
    """Against the first codec at the whole rate, on images of one busy block each."""
    codec = DiffJSCC.from_pretrained(trained).codec
    assert isinstance(codec, FeedbackJSCC)
    pixels = [np.asarray(Image.open(path)) for path in sorted(images.iterdir())]
    photos = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255

    def error(scheme: Scheme) -> float:
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(photos))]
        return (scheme(photos, AWGN(8), generators).image - photos).square().mean().item()

    both = error(Scheme(codec, "1/64"))
    assert both < 0.8 * error(Scheme(codec.first, "1/64"))
    assert both < 0.95 * error(Scheme(codec.over(codec.link, "everything"), "1/64"))


def test_weights_come_back_and_are_schemes_of_a_sweep(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    photo = next(images.iterdir())
    scheme = DiffJSCC.from_pretrained(trained, "1/64")
    scheme.save_pretrained(tmp_path / "copy")
    assert offered_rates(str(tmp_path / "copy")) == scheme.codec.rates
    loader = SchemeLoader("cpu")
    settings = [{}, {"resend": "everything"}, {"snr_db": 5}]
    records = []
    for feedback in settings:
        given = {"kind": "feedback", "weights": str(tmp_path / "copy"), "feedback": feedback}
        loaded = loader.at(SchemeConfig.model_validate(given), "1/64")
        results = evaluate(loaded, photo, AWGN, snrs_db=[5], metrics=["psnr"])
        records += results.as_dicts()
    assert len({record["weights"] for record in records}) == 3
    assert len({record["psnr"] for record in records}) == 3
    for record in records:
        assert record["channel_uses"] == 96 * 64 // 64
        assert record["feedback_uses"] == record["channel_uses"] * 3 // 4
    own = evaluate(scheme, photo, AWGN, snrs_db=[5], metrics=["psnr"]).as_dicts()
    assert own[0]["psnr"] == records[0]["psnr"]


def test_the_command_line_sends_with_feedback(trained: Path, images: Path, tmp_path: Path) -> None:
    photo = next(images.iterdir())

    def said(*words: object) -> tuple[int, str]:
        given = ("transmit", photo, "--rate", "1/64", "-o", tmp_path / "sent", *words)
        result = CliRunner().invoke(app, [str(word) for word in given])
        return result.exit_code, " ".join(result.output.split())

    rounds = ("--scheme", "feedback", "--weights", trained)
    code, _ = said(*rounds, "--feedback-snr", 10, "--json", tmp_path / "records.jsonl")
    assert code == 0
    record = json.loads((tmp_path / "records.jsonl").read_text().splitlines()[0])
    assert record["scheme"] == "feedback, feedback at 10 dB"
    assert record["feedback_uses"] == 72
    for words, reason in (
        ((*rounds, "--feedback-snr", 10, "--resend", "uncertain"), "both ends must agree"),
        (("--scheme", "feedback"), "CompactJSCC, a codec of one round"),
        (("--scheme", "deepjscc", "--feedback-snr", 3), "--feedback-snr: no effect on deepjscc"),
        (("--resend", "everything"), "--resend: for --scheme feedback"),
        ((*rounds, "--rate", "1/128"), "1/128 is not one of 1/64, 1/32"),
    ):
        code, text = said(*words)
        assert code == 2, words
        assert reason in text, text


def test_an_interrupted_run_ends_with_the_same_weights(
    images: Path, first: Path, tmp_path: Path, interrupted: Interrupted
) -> None:
    config = load_config(FeedbackTrainingConfig, str(toy(images, first, tmp_path)))
    whole = load_tensors(train(config, tmp_path / "whole"))
    with interrupted(6):
        train(config, tmp_path / "parts")
    again = load_tensors(train(config, tmp_path / "parts"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    begun = train(config, tmp_path / "begun", init=str(tmp_path / "whole" / "weights"))
    assert load_tensors(begun).keys() == whole.keys()


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    codec = DiffJSCC.from_pretrained(folder).codec
    assert isinstance(codec, FeedbackJSCC)
    return codec.layer.state_dict()


def test_what_does_not_fit_is_refused(
    images: Path, first: Path, trained: Path, tmp_path: Path
) -> None:
    path = str(toy(images, first, tmp_path))

    def refused(words: str, *overrides: str, init: str | None = None) -> None:
        with pytest.raises(ValueError, match=words):
            train(
                load_config(FeedbackTrainingConfig, path, overrides), tmp_path / "none", init=init
            )

    refused("data.crop is 40; give a multiple of 16", "data.crop=40")
    refused("codec has no setting 'round'; did you mean 'rounds'", "codec.round=3")
    refused("rounds is 0; give numbers from 1", "codec.rounds=0")
    refused("a codec of several rounds; a codec of one round is needed", f"first={trained}")
    refused("not of a codec with feedback of the architecture", init=str(first))
    refused("not of a codec with feedback", "codec.functions=12", init=str(trained))
    with pytest.raises(ValueError, match="a codec of several rounds"):
        load_codec(trained)
    with pytest.raises(ValueError, match="load both ends"):
        DiffJSCC.from_pretrained(trained, parts="transmitter")


@pytest.mark.parametrize("name", shipped_configs(FeedbackTrainingConfig))
def test_shipped_configs_are_valid(name: str) -> None:
    config = load_config(FeedbackTrainingConfig, name)
    assert len(config.rate_shares or ()) == len(load_codec(config.first).rates)

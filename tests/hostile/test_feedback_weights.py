"""Weights and options of codecs with feedback that somebody damaged or mistook."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from attempts import Attempts
from diffjscc import DiffJSCC
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.codecs.feedback import FeedbackJSCC
from diffjscc.codecs.feedback_layers import FeedbackConfig
from diffjscc.configuration import check
from diffjscc.pretrained.codec import save_codec
from diffjscc.pretrained.offered import offered_rates
from diffjscc.schemes.config import SchemeConfig

BAD: tuple[Any, ...] = (None, -1, 0, 1e9, "x", [], {}, True, [1], [-1, 2], [1e9, 1], "../../x")
KEYS = ("rounds", "functions", "widths", "blocks", "expansion", "kernel", "condition_width")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    first = CompactJSCC(
        CompactConfig(
            rate_channels=(4,), widths=(8, 8), encoder_blocks=(0, 0), decoder_blocks=(0, 0)
        )
    )
    layers = FeedbackConfig(rounds=1, functions=8, widths=(8, 8), blocks=(1, 1))
    folder = tmp_path_factory.mktemp("weights")
    save_codec(FeedbackJSCC(layers, first), folder)
    return folder


@pytest.mark.parametrize("key", [*KEYS, "first", "files", "class", "stride"])
def test_damaged_descriptions_are_refused(
    weights: Path, key: str, attempts: Attempts, tmp_path: Path
) -> None:
    shutil.copytree(weights, tmp_path / "copy")
    path = tmp_path / "copy" / "codec" / "config.json"
    whole = json.loads(path.read_text())
    variants = [{**whole, key: value} for value in BAD]
    variants.append({name: value for name, value in whole.items() if name != key})
    if key == "first":
        variants += [{**whole, key: {**whole["first"], "class": name}} for name in ("x", None)]
        variants.append({**whole, key: whole})  # rounds within rounds
    for values in variants:
        path.write_text(json.dumps(values))
        found = attempts.call("feedback", lambda: DiffJSCC.from_pretrained(tmp_path / "copy"))
        defaults = key not in values and key in KEYS  # a missing setting has its default
        fits = defaults or values == whole or (key == "stride" and "stride" not in values)
        assert isinstance(found, ValueError) or fits, values
        attempts.call("feedback", lambda: offered_rates(str(tmp_path / "copy")))


def test_missing_and_cut_files_are_refused(
    weights: Path, attempts: Attempts, tmp_path: Path
) -> None:
    for number, file in enumerate(sorted((weights / "codec").glob("*.safetensors"))):
        for size in (None, 0, 7, 100):
            copy = tmp_path / f"{number}-{size}"
            shutil.copytree(weights, copy)
            target = copy / "codec" / file.name
            if size is None:
                target.unlink()
            else:
                target.write_bytes(file.read_bytes()[:size])
            found = attempts.call("feedback", lambda place=copy: DiffJSCC.from_pretrained(place))
            assert isinstance(found, ValueError)


def test_options_out_of_range_are_refused(attempts: Attempts) -> None:
    for name in ("snr_db", "resend"):
        for value in (*BAD, float("nan"), float("inf"), -201, 201, "uncertain ", "both"):
            given = {"kind": "feedback", "feedback": {name: value}}
            found = attempts.call("feedback", lambda g=given: check(SchemeConfig, g, "schemes"))
            fits = value is None or (name == "snr_db" and value in (-1, 0) and value is not True)
            assert isinstance(found, ValueError) != fits, given
    for kind in ("deepjscc", "diffjscc", "ddnm", "bpg-ldpc"):
        given = {"kind": kind, "feedback": {"snr_db": 3}}
        found = attempts.call("feedback", lambda g=given: check(SchemeConfig, g, "schemes"))
        assert isinstance(found, ValueError)

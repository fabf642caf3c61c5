"""Names, tokens, cards and results that nobody would take to the hub."""

import json
import math
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from attempts import Attempts
from diffjscc import DeepJSCC, DeepJSCCConfig, DiffJSCC
from diffjscc.pretrained.sources import with_revision
from toy_hub import WRITER, Hub

KIND = "the hub"
SMALL = {"base_width": 8, "encoder_width": 8, "decoder_width": 8, "downsamplings": 2}

NAMES = [
    *(
        "",
        "a",
        "/",
        "a/",
        "/b",
        "a/b/c",
        "../b",
        "./b",
        "~/b",
        "a/..",
        "a/b@",
        "a/b@v1",
        "@",
    ),
    *(
        "@v1",
        "a b/c",
        "a/b c",
        "a\nb/c",
        "a/b\x00",
        "é/ü",
        "照/片",
        "a/b?x=1",
        "a/b#c",
    ),
    *(
        "a/%2e%2e",
        "a/b.git",
        "a--b/c",
        "a/-b",
        "a/b-",
        "x" * 97 + "/b",
        "http://x/y",
    ),
    *(
        "hf://a/b",
        "C:\\a/b",
        "[b]/x",
        "a/<b>",
    ),
]
REVISIONS = [
    *(
        "",
        " ",
        "..",
        "../main",
        "a b",
        "a\nb",
        "v9",
        "x" * 500,
        "é",
        "a/b",
        "@",
        "--",
    ),
    *(
        "\x00",
        "%2e",
    ),
]
TOKENS = [
    *(
        "",
        " ",
        "x",
        "hf_\n",
        "é",
        "hf_" + "x" * 5000,
        "\x00",
    ),
]
TEXTS = [
    *(
        "---\nlicense: x\n---",
        "```\nend",
        "<script>alert(1)</script>",
        "a|b\nc",
    ),
    *(
        "\x00\x1b[31m",
        "𝒳\u202e",
    ),
]
CARDS = [
    {},
    {"contains": None},
    *({"contains": text, text: {text: [text]}} for text in TEXTS),
    {"a": math.nan, "b": math.inf, "c": [[[[]]]], "d": {"e": {"f": {}}}},
    {"long": "x" * 100_000},
]
POINT = {"scheme": "s", "channel": "awgn", "nominal_rate": "1/8", "nominal_snr_db": 1.0}
ROWS = [
    {},
    None,
    [],
    "row",
    {**POINT},
    {**POINT, "psnr": None},
    {**POINT, "psnr": "x"},
    {**POINT, "psnr": math.nan},
    {**POINT, "psnr": math.inf},
    {**POINT, "psnr": True},
    {**POINT, "psnr": 10**400},
    {**POINT, "nominal_snr_db": None, "psnr": 1.0},
    {**POINT, "nominal_snr_db": "x", "psnr": 1.0},
    {**POINT, "scheme": ["list"], "psnr": 1.0},
    *({**POINT, "scheme": text, "channel": text, "psnr": 1.0} for text in TEXTS),
]


@pytest.fixture
def scheme() -> DiffJSCC:
    """A small untrained codec."""
    codec = DeepJSCC(DeepJSCCConfig(4, encoder_blocks=1, decoder_blocks=1, **SMALL)).eval()
    return DiffJSCC(codec, codec.rates[0])


def test_names_revisions_and_tokens(
    empty_hub: type[Hub], scheme: DiffJSCC, attempts: Attempts
) -> None:
    pushes = [{"repo_id": name, "token": WRITER} for name in NAMES]
    pushes += [{"repo_id": "someone/weights", "token": token} for token in TOKENS]
    for push in pushes:
        refused = attempts.call(KIND, lambda push=push: scheme.push_to_hub(**push))
        assert isinstance(refused, ValueError), push
        assert len(str(refused).splitlines()) == 1
    for revision in REVISIONS:
        push = {"repo_id": "someone/weights", "token": WRITER, "revision": revision}
        attempts.call(KIND, lambda push=push: scheme.push_to_hub(**push))
        attempts.call(KIND, lambda text=revision: with_revision("someone/weights", text))
    assert {branch for _, branch in empty_hub.commits} <= {"main"}


def test_cards_stay_within_their_place(scheme: DiffJSCC, attempts: Attempts) -> None:
    for card in CARDS:
        object.__setattr__(scheme, "card", card)
        text = attempts.call(KIND, lambda: scheme.model_card("a/b"))
        assert isinstance(text, str)
        data = ModelCard(text).data.to_dict()
        assert data["library_name"] == "diffjscc"
        assert "license" not in data
        yaml.safe_load(text.split("---")[1])


def test_results_of_any_kind(scheme: DiffJSCC, attempts: Attempts) -> None:
    for row in ROWS:
        text = attempts.call(KIND, lambda row=row: scheme.model_card("a/b", [row], "set"))
        if isinstance(text, str):
            ModelCard(text)
            assert "<script>" not in text
            rows = [line for line in text.splitlines() if line.startswith("| ")]
            assert len({line.replace("\\|", "").count("|") for line in rows}) <= 1


def test_results_that_are_none(tmp_path: Path, attempts: Attempts, empty_hub: type[Hub]) -> None:
    (tmp_path / "file").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "setup.json").write_text(json.dumps({"format": 99}))
    for place in ("file", "empty", "bad", "missing", "a\0b"):
        words = ("publish", "compact", "someone/weights", "--results", f"{tmp_path}/{place}")
        assert attempts.command(KIND, *words).exit_code == 2
    for weights in ("nothing", str(tmp_path / "empty"), "a/b/c", ""):
        assert attempts.command(KIND, "publish", weights, "someone/weights").exit_code == 2
    assert not list(empty_hub.folder.iterdir())

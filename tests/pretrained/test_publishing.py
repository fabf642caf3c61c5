"""Weights on the hub: uploads with a model card, revisions, and words where the hub refuses."""

import json
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, constants
from typer.testing import CliRunner, Result

from diffjscc import AWGN, DeepJSCC, DeepJSCCConfig, DiffJSCC, evaluate
from diffjscc.cli import app
from diffjscc.pretrained.pretrained import find_weights
from diffjscc.pretrained.storage import WeightsError, weights_hash
from toy_hub import COMMIT, READER, WRITER, Hub

SMALL = {"base_width": 8, "encoder_width": 8, "decoder_width": 8, "downsamplings": 2}


@pytest.fixture
def scheme() -> DiffJSCC:
    """A small untrained codec with a card."""
    codec = DeepJSCC(DeepJSCCConfig(4, encoder_blocks=1, decoder_blocks=1, **SMALL)).eval()
    card = {"contains": "a codec | of <tests>", "training": {"iterations": 3, "loss": "MSE"}}
    return DiffJSCC(codec, codec.rates[0], card=card)


def test_what_is_pushed_is_loaded_again(
    empty_hub: type[Hub], scheme: DiffJSCC, tmp_path: Path
) -> None:
    images = torch.rand(2, 3, 24, 40)
    records = evaluate(scheme, images, AWGN, snrs_db=[1, 7], metrics=["psnr"], name="a|b")
    address = scheme.push_to_hub(
        "someone/weights",
        token=WRITER,
        results=records.as_dicts(),
        dataset="noise",
        licence="apache-2.0",
        commit_message="the first",
    )
    assert address.endswith(f"/someone/weights/commit/{COMMIT}")
    assert empty_hub.commits == [("the first", "main")]
    again = DiffJSCC.from_pretrained("someone/weights")
    assert again.card == scheme.card
    for one, other in zip(again.codec.parameters(), scheme.codec.parameters(), strict=True):
        assert torch.equal(one, other)
    assert again.provenance == f"weights@{weights_hash(empty_hub.folder, ['codec'])}"

    card = ModelCard((empty_hub.folder / "README.md").read_text(encoding="utf-8"))
    data = card.data.to_dict()
    assert (data["library_name"], data["license"]) == ("diffjscc", "apache-2.0")
    assert "arxiv:2404.17736" in data["tags"]
    values = [one.metric_value for one in card.data.eval_results]
    psnrs = [record.metrics["psnr"] for record in records]
    assert values == [pytest.approx(sum(psnrs[n : n + 2]) / 2, abs=1e-3) for n in (0, 2)]
    assert f"| a\\|b | awgn | 1/8 | 1 | {sum(psnrs[:2]) / 2:.3f} |" in card.text
    assert 'DiffJSCC.from_pretrained("someone/weights", rate="1/8")' in card.text
    assert "iterations: 3" in card.text


def test_weights_of_before_are_removed(empty_hub: type[Hub], scheme: DiffJSCC) -> None:
    scheme.push_to_hub("someone/weights", token=WRITER)
    before = set(empty_hub.folder.rglob("*.safetensors"))
    (empty_hub.folder / "notes.txt").write_text("kept")
    with torch.no_grad():
        next(scheme.codec.parameters()).add_(1)
    scheme.push_to_hub("someone/weights", token=WRITER, revision="v1", dtype=torch.float16)
    after = set(empty_hub.folder.rglob("*.safetensors"))
    assert len(after) == len(before) == 2
    assert not after & before
    assert (empty_hub.folder / "notes.txt").is_file()
    assert empty_hub.commits[-1][1] == "v1"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("someone/weights", {}, "no token to write to the hub with; log in by `hf auth login`"),
        ("someone/weights", {"token": "hf_wrong"}, "does not accept the token"),
        ("someone/weights", {"token": READER}, "the token has no right to"),
        ("another/weights", {"token": WRITER}, "the token has no right to"),
        ("someone/weights", {"token": WRITER, "revision": "v9"}, "has no branch 'v9'"),
        ("weights", {"token": WRITER}, "is no hub id to write to; give owner/name"),
        ("someone/weights@v1", {"token": WRITER}, "and a branch as revision"),
        ("someone/a b", {"token": WRITER}, "is no hub id"),
        ("someone/weights", {"token": WRITER, "results": [{"psnr": 1}]}, "give records as plain"),
        ("someone/weights", {"token": WRITER, "dtype": torch.float64}, "cannot be stored as"),
    ],
)
def test_refusals_in_words(
    name: str, options: dict, said: str, empty_hub: type[Hub], scheme: DiffJSCC
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        scheme.push_to_hub(name, **options)
    assert "\n" not in str(refused.value)
    assert not list(empty_hub.folder.iterdir())


@pytest.mark.parametrize(("status", "said"), [(404, "knows no such thing"), (500, "answered 500")])
def test_other_answers(
    status: int, said: str, empty_hub: type[Hub], scheme: DiffJSCC, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(empty_hub, "refusal", status)
    with pytest.raises(WeightsError, match=said):
        scheme.push_to_hub("someone/weights", token=WRITER)


def test_without_a_network(
    empty_hub: type[Hub], scheme: DiffJSCC, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"the hub cannot be reached .* nothing was written"):
        scheme.push_to_hub("someone/weights", token=WRITER)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        scheme.push_to_hub("someone/weights", token=WRITER)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "does not accept the token"), (403, "no right to")]
)
def test_downloads_that_the_hub_refuses(
    status: int, said: str, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "refusal", status)
    with pytest.raises(WeightsError, match=said):
        DiffJSCC.from_pretrained("someone/weights")


def test_revisions(empty_hub: type[Hub], scheme: DiffJSCC, tmp_path: Path) -> None:
    scheme.push_to_hub("someone/weights", token=WRITER)
    loaded = DiffJSCC.from_pretrained("someone/weights", revision="v1")
    assert loaded.provenance.startswith("weights@v1@")
    assert find_weights("someone/weights@v1").commit == COMMIT
    assert find_weights("compact").commit is None
    for source, said in (("compact", "is for hub ids"), ("someone/weights@v1", "remove revision")):
        with pytest.raises(WeightsError, match=said):
            DiffJSCC.from_pretrained(source, revision="main")
    with pytest.raises(WeightsError, match="has no revision 'v9'"):
        DiffJSCC.from_pretrained("someone/weights", revision="v9")


def test_the_commit_is_recorded_beside_the_revision(
    empty_hub: type[Hub], scheme: DiffJSCC, tmp_path: Path
) -> None:
    from PIL import Image  # noqa: PLC0415

    scheme.push_to_hub("someone/weights", token=WRITER)
    Image.effect_noise((48, 32), 50).convert("RGB").save(tmp_path / "a.png")
    words = ["evaluate", tmp_path / "a.png", "--scheme", "deepjscc", "--rate", "1/8", "--snr", "1"]
    words += ["--set", "metrics=[psnr]", "--set", "features=[]", "-o", tmp_path / "results"]
    words += ["--weights", "someone/weights@v1"]
    for _ in "twice":
        result = CliRunner().invoke(app, list(map(str, words)))
        assert result.exit_code == 0, result.output
    setup = json.loads((tmp_path / "results" / "setup.json").read_text())
    assert setup["revisions"] == {"deepjscc": COMMIT}
    assert setup["sweep"]["schemes"][0]["weights"] == "someone/weights@v1"


def test_a_folder_is_published_as_it_is(
    empty_hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image  # noqa: PLC0415

    def run(*words: object) -> Result:
        return CliRunner().invoke(app, list(map(str, words)))

    Image.effect_noise((48, 32), 50).convert("RGB").save(tmp_path / "a.png")
    swept = ("evaluate", tmp_path / "a.png", "--scheme", "deepjscc", "--rate", "1/16")
    options = ("--snr", "1", "--set", "metrics=[psnr]", "--set", "features=[]")
    assert run(*swept, *options, "-o", tmp_path / "results").exit_code == 0
    words = ("publish", "compact", "someone/weights", "--results", tmp_path / "results")
    refused = run(*words)
    assert refused.exit_code == 2
    assert "no token" in refused.stderr
    monkeypatch.setenv("HF_TOKEN", WRITER)
    result = run(*words, "--dataset", "noise", "--message", "as it is")
    assert result.exit_code == 0, result.output
    assert empty_hub.commits == [("as it is", "main")]
    here, there = find_weights("compact").folder, empty_hub.folder
    for path in here.rglob("*.*"):
        assert (there / path.relative_to(here)).read_bytes() == path.read_bytes()
    card = ModelCard((there / "README.md").read_text(encoding="utf-8"))
    assert "| deepjscc | awgn | 1/16 | 1 |" in card.text
    assert "and a diffusion receiver (ControlledDiffusion)" in card.text
    size = float(re.search(r"(\S+) million parameters", card.text)[1])
    assert 34 < size < 36  # 6.3 + 4.0 + 14.0 + 5.4 + 5.4

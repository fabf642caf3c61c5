"""Released checkpoints loaded by their own name: converted once, into the cache."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from diffjscc import DiffJSCC
from diffjscc.pretrained.convert import released
from diffjscc.pretrained.pretrained import open_weights
from diffjscc.pretrained.receiver import load_refiner
from diffjscc.pretrained.storage import WeightsError, read_json, weights_hash
from diffjscc.refiners.diffusion import ControlledDiffusion
from toy_hub import Hub
from toy_refiner import networks


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An empty cache; lists what is converted into it."""
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    sources: list[Any] = []
    convert: Callable[..., Path] = released.convert_released

    def counted(source: str | Path, *others: Any) -> Path:
        sources.append(source)
        return convert(source, *others)

    monkeypatch.setattr(released, "convert_released", counted)
    return sources


def test_a_released_folder_is_converted_once(
    checkpoint: Path, converted: Path, conversions: list[Any], tmp_path: Path
) -> None:
    source = shutil.copytree(checkpoint, tmp_path / "mini")
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(open_weights(source).folder)) for _ in "two"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scheme = DiffJSCC.from_pretrained(source, device="cpu")
    assert conversions == [source]
    assert len(set(found)) == 1
    assert isinstance(scheme.refiner, ControlledDiffusion)
    loaded = ["codec", *networks(scheme.refiner)]
    assert scheme.provenance == f"mini@{weights_hash(converted, loaded)}"
    reference = networks(load_refiner(converted))
    for name, network in networks(scheme.refiner).items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, reference[name].state_dict()[key]), (name, key)
    # Another state of the folder is another checkpoint.
    os.utime(source / "model.ckpt", (1, 1))
    assert open_weights(source).folder not in found
    assert len(conversions) == 2


def test_a_released_hub_id_is_converted_once(
    hub: type[Hub],
    converted: Path,
    conversions: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheme = DiffJSCC.from_pretrained("someone/weights", parts="transmitter", device="cpu")
    assert conversions == ["someone/weights"]
    assert scheme.provenance == f"weights@{weights_hash(converted, ['codec'])}"
    # What it was converted from is no longer needed, nor is a network.
    for path in (tmp_path / "cache").rglob("model.ckpt"):
        path.unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = open_weights("someone/weights").folder
    assert conversions == ["someone/weights"]
    expected, card = (read_json(folder / "card.json") for folder in (converted, again))
    assert card["sha256"] == expected["sha256"]


def test_a_released_folder_that_cannot_be_converted_is_named(
    checkpoint: Path, conversions: list[Any], tmp_path: Path
) -> None:
    source = tmp_path / "mini"
    source.mkdir()
    (source / "config.yaml").write_bytes((checkpoint / "config.yaml").read_bytes())
    with pytest.raises(WeightsError, match=r"model\.ckpt is missing"):
        open_weights(source)
    (source / "model.ckpt").write_bytes(b"<html>Not Found</html>")
    with pytest.raises(WeightsError, match=r"model\.ckpt is damaged"):
        open_weights(source)
    kept = tmp_path / "assets/diffjscc/weights/converted"
    assert not [path for path in kept.iterdir() if path.is_dir()]


def test_card_checksums_are_not_those_of_a_copy(converted: Path, tmp_path: Path) -> None:
    scheme = DiffJSCC.from_pretrained(converted, refiner=None, device="cpu")
    scheme.save_pretrained(tmp_path / "copy", torch.float16)
    card = json.loads((tmp_path / "copy/card.json").read_text())
    assert card["converted_from"] == "mini"
    assert "sha256" not in card

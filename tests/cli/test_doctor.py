"""`diffjscc doctor`: what works, what does not, what mends it."""

import os
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffjscc.cli import app, checkup
from diffjscc.codecs.digital.source_codecs.source import SourceUnavailable
from diffjscc.schemes import digital
from locations import ROOT


def doctor() -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor"])
    return result.exit_code, result.output


def test_a_sound_installation_is_found_sound(weight_cache: Path) -> None:
    before = os.environ.get("HF_HUB_OFFLINE")
    code, words = doctor()
    assert code == 0
    for part in (
        "diffjscc",
        "torch",
        "weights compact",
        "metric lpips",
        "features inception",
        "source codec bpg",
    ):
        assert part in words
    assert "broken" not in words
    assert os.environ.get("HF_HUB_OFFLINE") == before


def test_damaged_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(path: Path) -> None:
        raise ValueError(f"{path.name} is damaged; fetch it again")

    monkeypatch.setattr(checkup, "open_tensors", damaged)
    code, words = doctor()
    assert code == 1
    assert "broken: weights compact" in words
    assert "fetch it again" in words


def test_absent_parts_come_with_the_way_to_have_them(
    monkeypatch: pytest.MonkeyPatch, weight_cache: Path
) -> None:
    def absent() -> None:
        raise SourceUnavailable("PyAV is not installed: pip install 'diffjscc[digital]'")

    monkeypatch.setitem(digital.SOURCES, "bpg", absent)
    monkeypatch.setattr(checkup, "find_spec", lambda module: None)
    code, words = doctor()
    assert code == 0
    words = " ".join(words.split())  # however the table folds them
    assert "PyAV is not installed" in words
    assert "pip install 'diffjscc[radio]'" in words
    assert "absent metric lpips_alex" in words


def test_every_extra_of_users_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(checkup.EXTRAS) == set(project["optional-dependencies"]) - {"docs", "dev"}

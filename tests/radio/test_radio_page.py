"""docs/radio.md: its examples run as they stand there, and its budget is right."""

import re
import shlex
from pathlib import Path

import pytest
from test_air import photo
from typer.testing import CliRunner

from diffjscc.cli import app
from diffjscc.configuration import check
from diffjscc.radio.frame import Layout
from diffjscc.radio.header import header_length
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.training.config import TrainingChannelConfig
from diffjscc.yaml_reader import parse_yaml
from locations import ROOT

PAGE = (ROOT / "docs" / "radio.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "photo.png", 128, 96)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "diffjscc"
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, (command, result.output)
    for name in ("received/frame-0000.png", "digital/frame-0000.png", "imported/payload-0000.png"):
        assert (tmp_path / name).is_file()


def test_the_budget_is_that_of_the_layout() -> None:
    rows = re.findall(r"^\| `(.*?)` \| (1/\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for name, rate, text in rows:
        layout = Layout(WAVEFORMS[name], 768 * 512 // int(rate[2:]))
        uses = layout.uses_by_kind()
        stated = [int(cell.replace(",", "").replace("–", "0")) for cell in text.split(" | ")[:8]]
        assert stated == [*uses.values(), sum(uses.values())]
        assert text.endswith(f"{layout.samples / 1e3:.1f} ms")
    assert f"{header_length():,} cells" in PAGE


def test_the_config_of_the_page_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = check(TrainingChannelConfig, parse_yaml(text)["channel"], "page")
    assert config.ofdm.csi_error == 0.1

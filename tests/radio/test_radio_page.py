"""docs/radio.md: its budget is right, and its config is valid."""

import re

from diffjscc.configuration import check
from diffjscc.radio.frame import Layout
from diffjscc.radio.header import header_length
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.training.config import TrainingChannelConfig
from diffjscc.yaml_reader import parse_yaml
from locations import ROOT

PAGE = (ROOT / "docs" / "radio.md").read_text(encoding="utf-8")


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

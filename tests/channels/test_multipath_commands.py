"""The multipath channel by the command line: transmission, and training through it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from diffjscc.cli import app


def image(path: Path, side: int = 64) -> Path:
    y, x = np.mgrid[:side, :side]
    levels = np.stack((x * 255 // side, y * 255 // side, 128 + 0 * x), -1).astype(np.uint8)
    Image.fromarray(levels).save(path)
    return path


def test_a_transmission_over_ofdm(tmp_path: Path) -> None:
    source = image(tmp_path / "a.png")
    words = ["transmit", str(source), "--channel", "ofdm", "--snr", "10", "--refiner", "none"]
    words += ["--rate", "1/16", "--repeats", "3", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "rows.json")])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len({row["snr_db"] for row in rows}) == 3  # every transmission has its fades
    assert all(row["metrics"]["psnr"] > 14 for row in rows)


@pytest.mark.parametrize("equaliser", ["none", "mmse"])
def test_training_over_ofdm(tmp_path: Path, equaliser: str) -> None:
    (tmp_path / "images").mkdir()
    for number in range(2):
        image(tmp_path / "images" / f"{number}.png")
    config = tmp_path / "config.yaml"
    config.write_text(
        "codec: {class: CompactJSCC, widths: [8, 8], condition_width: 8, encoder_blocks: [1, 1], "
        "decoder_blocks: [1, 1]}\n"
        f"data: {{train: {tmp_path / 'images'}, crop: 32}}\n"
        f"channel: {{name: ofdm, ofdm: {{equaliser: {equaliser}, csi_error: 0.1}}}}\n"
        "run: {iterations: 2, batch: 2}\n"
    )
    output = tmp_path / "run"
    words = ["train", "jscc", "--config", str(config), "--output", str(output)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert (output / "weights" / "codec" / "config.json").is_file()

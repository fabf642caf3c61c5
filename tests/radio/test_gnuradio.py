"""A third party in the loop: GNU Radio's channel model between `send` and `receive`."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from test_air import photo
from typer.testing import CliRunner

from diffjscc import psnr
from diffjscc.cli import app
from diffjscc.data.images import load_image
from locations import ROOT

SCRIPT = ROOT / "examples" / "gnuradio_loop.py"


def python_with_gnuradio() -> str:
    """A Python that imports GNU Radio; skips the test without one."""
    for name in ("/usr/bin/python3", shutil.which("python3")):
        if name is not None and Path(name).exists():
            words = [name, "-c", "from gnuradio import blocks, channels, gr, zeromq"]
            if subprocess.run(words, capture_output=True, check=False, env={}).returncode == 0:
                return name
    pytest.skip("no Python here has GNU Radio (Debian: package gnuradio)")


def test_an_image_through_gnu_radio(tmp_path: Path) -> None:
    python = python_with_gnuradio()
    image = photo(tmp_path / "0.png")
    sent, air = tmp_path / "sent.cf32", tmp_path / "air.cf32"
    words = ["send", str(image), "-o", str(sent), "--rate", "1/16"]
    assert CliRunner().invoke(app, words).exit_code == 0
    options = ["--snr", "10", "--frequency-offset", "0.008", "--epsilon", "1.00001"]
    options += ["--taps", "0.9+0.1j", "0.2-0.3j"]
    loop = [python, str(SCRIPT), str(sent), str(air), *options]
    done = subprocess.run(
        loop, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    words = ["receive", str(air), "-o", str(tmp_path / "out"), "--refiner", "none"]
    assert CliRunner().invoke(app, [*words, "--sample-rate", "1e6"]).exit_code == 0
    (row,) = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert row["status"] == "received"
    assert row["snr_db"] == pytest.approx(10, abs=0.7)
    assert row["carrier_offset_hz"] == pytest.approx(8000, abs=30)
    found = load_image(tmp_path / "out" / row["files"][0])[None]
    assert float(psnr(found, load_image(image)[None])) > 18

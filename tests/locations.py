"""Folders that several test files read from."""

from pathlib import Path

import matplotlib as mpl

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
PARITY = ROOT / "tests" / "parity"
PHOTOGRAPHS = ROOT / "tests" / "photographs"
PORTRAIT = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"

"""Folders that several test files read from."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
PARITY = ROOT / "tests" / "parity"

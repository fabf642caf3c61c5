"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers and pictures that lies beside a development checkout."""
    folder = Path(os.environ.get("DIFFJSCC_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder} (set DIFFJSCC_SHARED)")
    return folder

"""Sweeps of plain settings, as tests run them."""

from pathlib import Path
from typing import Any

from diffjscc.configuration import check
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.results import Results
from diffjscc.evaluation.sweep import Sweep, SweepRun


def start(values: dict[str, Any], folder: Path) -> SweepRun:
    return Sweep(check(SweepConfig, values, "test"), folder).prepare()


def run(values: dict[str, Any], folder: Path) -> Results:
    return start(values, folder).run(lambda _: None)

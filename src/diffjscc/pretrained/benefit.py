"""Table of where a receiver helps: benefit.json beside its refiner.json.

It holds the `strength` of `DiffusionConfig`, and the points that it was chosen by.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffjscc.pretrained.build import build_config
from diffjscc.pretrained.storage import WeightsError, read_json, write_table
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.sampling import ByBits

FILE = "benefit.json"


def read_strength(path: Path) -> ByBits:
    """Read the strength of a table.

    Raises:
        WeightsError: it is missing, or damaged.
    """
    values = read_json(path)
    try:
        return build_config(DiffusionConfig, {"strength": values["strength"]}, str(path)).strength
    except KeyError as error:
        raise WeightsError(f"{path} has no strength; measure it again") from error
    except ValueError as error:
        raise WeightsError(str(error)) from error


def save_benefit(strength: ByBits, points: list[dict[str, Any]], path: Path) -> None:
    """Write a table, atomically, with numbers of six digits."""
    write_table(path, {"strength": strength, "points": points})

"""Table of a rate policy on disk: rate_policy.json in the folder of the weights that it is of."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from diffjscc.codecs.rate_policy import RatePredictor
from diffjscc.pretrained.build import build_config
from diffjscc.pretrained.storage import WeightsError, read_json, write_table

FILE = "rate_policy.json"


def read_rate_policy(path: Path) -> RatePredictor:
    """Read a table.

    Raises:
        WeightsError: it is missing, or damaged.
    """
    if not path.is_file():
        raise WeightsError(
            f"there is no rate policy {path}; measure one on photographs: `diffjscc calibrate "
            "rates PHOTOGRAPHS --weights … --output FILE`, and give the file as rate_policy.table"
        )
    try:
        return build_config(RatePredictor, read_json(path), str(path))
    except ValueError as error:
        raise WeightsError(str(error)) from error


def save_rate_policy(predictor: RatePredictor, path: Path) -> None:
    """Write a table, atomically, with numbers of six digits."""
    values = asdict(predictor)
    values["rates"] = [str(rate) for rate in predictor.rates]
    write_table(path, values)

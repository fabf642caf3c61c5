"""Recorded inputs and outputs of the released implementation, see tests/parity/README.md."""

import gzip
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locations import PARITY


def recorded_tensors(name: str) -> dict[str, Tensor]:
    """The tensors of a recording by their names."""
    with np.load(PARITY / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(values) for key, values in arrays.items()}


def recorded_numbers(name: str) -> Any:
    """The numbers and names of a recording."""
    path = PARITY / f"{name}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    return json.loads(gzip.decompress(path.with_name(f"{name}.json.gz").read_bytes()))

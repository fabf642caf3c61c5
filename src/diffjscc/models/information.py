"""What `diffjscc info` tells."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from diffjscc import __version__
from diffjscc.models.diffjscc import choose_device
from diffjscc.models.pretrained import bundled_weights, find_weights, read_json, weights_hash


def information() -> dict[str, Any]:
    """Versions, device, and every bundled set of weights with its card and hash."""
    weights = {}
    for name in bundled_weights():
        folder = find_weights(name)
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        facts = {"hash": weights_hash(folder), "mebibytes": round(size / 2**20, 2)}
        weights[name] = facts | read_json(folder / "card.json")
    return {
        "diffjscc": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "pillow": version("pillow"),
        "device": str(choose_device()),
        "weights": weights,
    }

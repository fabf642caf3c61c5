"""`diffjscc info`: versions, devices and weights of this installation."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from diffjscc.pretrained.diffjscc import choose_device
from diffjscc.pretrained.pretrained import bundled_weights, find_weights, has_refiner, weights_hash
from diffjscc.pretrained.storage import read_json
from diffjscc.version import __version__


def information() -> dict[str, Any]:
    """Versions, device, and every bundled set of weights with its card and hash."""
    weights = {}
    for name in bundled_weights():
        folder = find_weights(name).folder
        facts = {"hash": weights_hash(folder), "mebibytes": mebibytes(folder)}
        weights[name] = facts | {"components": components(folder)} | read_json(folder / "card.json")
    return {
        "diffjscc": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "pillow": version("pillow"),
        "device": str(choose_device()),
        "weights": weights,
    }


def components(folder: Path) -> dict[str, str | None]:
    """The class of the codec of a folder of weights, and that of its refiner, if it has one."""
    codec = read_json(folder / "codec" / "config.json").get("class")
    refiner = read_json(folder / "refiner.json").get("class") if has_refiner(folder) else None
    return {"codec": codec, "refiner": refiner}


def mebibytes(folder: Path) -> float:
    """Size of all tensors of a folder of weights."""
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    return round(size / 2**20, 2)

"""Custom codecs and refiners (the user's own) on disk.

    FOLDER/config.json               {"class": "custom", "factory": "module:name", "args": {…},
                                     "file": "model-<hash>.safetensors" or null}

The folder names code, so that loading it runs code: only with the user's explicit consent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffjscc.configuration import check
from diffjscc.plugins import Factory
from diffjscc.pretrained.storage import (
    WeightsError,
    compare,
    read_json,
    read_tensors,
    remove_stale,
    write_json,
    write_tensors,
)

CLASS = "custom"


def is_custom(config: Path) -> bool:
    """Return whether a config.json describes a custom codec or refiner."""
    return config.is_file() and read_json(config).get("class") == CLASS


def save_custom(
    part: object, folder: Path, factory: Factory, dtype: torch.dtype = torch.float32
) -> None:
    """Write the factory of a part and, for a torch module, its tensors.

    Args:
        part: a codec or a refiner.
        folder: folder to write, created if needed.
        factory: call that builds such a part, without trained weights.
        dtype: of the tensors on disk, see `storage`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = None
    if isinstance(part, nn.Module) and (state := part.state_dict()):
        file = write_tensors(state, folder, "model", dtype)
    write_json(folder / "config.json", {"class": CLASS, **factory.model_dump(), "file": file})
    remove_stale(folder, [] if file is None else [file])


def load_custom(folder: Path, device: torch.device, trust_custom_code: bool) -> Any:  # noqa: ANN401
    """Load a part that `save_custom` wrote, ready for inference.

    Args:
        folder: the part's folder.
        device: device of its tensors.
        trust_custom_code: the user's consent to import and call the factory in config.json.

    Raises:
        WeightsError: no consent, a damaged folder, or tensors that do not fit.
        ValueError: the factory cannot be imported or called.
    """
    path = folder / "config.json"
    values = read_json(path)
    values.pop("class", None)
    file = values.pop("file", None)
    try:
        factory = check(Factory, values, str(path))
    except ValueError as error:
        raise WeightsError(str(error)) from error
    if not trust_custom_code:
        raise WeightsError(
            f"{path} names code: {factory.factory}. Loading it imports and calls that; read it, "
            "and if you trust it load with trust_custom_code=True"
        )
    part = factory.make()
    if file is not None:
        if not isinstance(part, nn.Module):
            raise WeightsError(
                f"{path} comes with tensors, but {factory.factory} gave "
                f"{type(part).__name__}, which is no torch module"
            )
        state = read_tensors(folder / Path(str(file)).name)
        compare(part.state_dict(), state, str(folder))
        part.load_state_dict(state)
    if isinstance(part, nn.Module):
        part.to(device).eval().requires_grad_(False)
    return part

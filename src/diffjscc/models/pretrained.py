"""From a name to weights: bundled, a folder, a hub id, or a released checkpoint of either kind.

    WEIGHTS/
      card.json                  what made the weights, on what, and how good they are
      codec/                     see `codec`
      refiner.json, unet/ …      see `receiver`; only where the weights have a diffusion receiver

Released checkpoints are converted once, into the hub's cache (HF_HOME, or HF_ASSETS_CACHE).
"""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import torch
from huggingface_hub import cached_assets_path, constants
from huggingface_hub.utils import WeakFileLock

from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.models.codec import read_codec, save_codec
from diffjscc.models.sources import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    bundled_weights,
    find_folder,
    split_revision,
)
from diffjscc.models.storage import WeightsError, has_refiner, weights_hash

__all__ = [
    "WeightsError",
    "bundled_weights",
    "find_weights",
    "has_refiner",
    "load_codec",
    "save_codec",
    "weights_hash",
]


def find_weights(source: str | Path) -> Path:
    """The folder of weights.

    Args:
        source: name of bundled weights, a folder, or a hub id (downloaded once); the latter two
            may also be a released checkpoint's, which is converted once.

    Raises:
        WeightsError: there is no such folder, and no such hub id or no network, or the released
            checkpoint cannot be converted.
        OSError: there is no room for what is converted.
    """
    folder = find_folder(source)
    if (folder / "codec" / "config.json").is_file():
        return folder
    if any((folder / name).is_file() for name in (CONFIG_NAME, CHECKPOINT_NAME)):
        return _converted(source, folder)
    return folder


def load_codec(
    source: str | Path, parts: Parts = "both", device: torch.device | str = "cpu"
) -> JointCodec:
    """Load a codec, ready for inference, as float32.

    Args:
        source: see `find_weights`.
        parts: "transmitter" or "receiver" reads and keeps that end only.
        device: where to put it.

    Raises:
        WeightsError: missing or damaged files, or tensors that do not fit the architecture.
    """
    return read_codec(find_weights(source), parts, device)


def _converted(source: str | Path, folder: Path) -> Path:
    """The weights that a released checkpoint becomes, from the cache where they are there.

    Args:
        source: hub id or folder of the checkpoint.
        folder: where its files lie, or, on the hub's side, its commit's folder.
    """
    if Path(source).is_dir():
        key = f"{folder.resolve().name}-{_stamp(folder)}"
    else:
        key = f"{split_revision(str(source))[0].replace('/', '--')}-{folder.name}"
    try:
        cache: Path = cached_assets_path(
            "diffjscc", "weights", "converted", assets_dir=constants.HF_ASSETS_CACHE
        )
        target = cache / key
        if target.is_dir():
            return target
        # A second process waits for the first and finds what it made.
        with WeakFileLock(cache / f".{key}.lock"):
            if not target.is_dir():
                from diffjscc.models.released import convert_released  # noqa: PLC0415

                convert_released(source, target)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise WeightsError(
            f"the converted checkpoint cannot be kept: {error}; set HF_HOME to a folder that can "
            f"be written, or run `diffjscc convert {source} FOLDER` and load that folder"
        ) from error
    return target


def _stamp(folder: Path) -> str:
    """What tells a local checkpoint from others and from its own earlier states."""
    facts = [str(folder.resolve())]
    for name in (CONFIG_NAME, CHECKPOINT_NAME):
        if (folder / name).is_file():
            status = (folder / name).stat()
            facts.append(f"{status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]

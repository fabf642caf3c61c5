"""Weights by name: bundled, a folder, a hub id, or a released checkpoint of either kind.

    WEIGHTS/
      card.json                  training and data of the weights, and metrics
      codec/                     see `codec`
      refiner.json, unet/ …      see `receiver`; only if the weights have a diffusion receiver

Released checkpoints are converted once, into the hub's cache (HF_HOME, or HF_ASSETS_CACHE).
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.paths import printable, resolved
from diffjscc.pretrained.codec import read_codec, save_codec
from diffjscc.pretrained.sources import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    bundled_weights,
    commit_of,
    find_folder,
    split_revision,
)
from diffjscc.pretrained.storage import WeightsError, has_refiner, weights_hash

__all__ = [
    "Weights",
    "WeightsError",
    "bundled_weights",
    "find_weights",
    "has_refiner",
    "load_codec",
    "open_weights",
    "save_codec",
    "weights_hash",
]


# Errors of a cache folder that cannot be there, or cannot be written.
_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT)


@dataclass(frozen=True)
class Weights:
    """A folder of weights, looked up once.

    Attributes:
        source: the user's input: name of bundled weights, a folder or a hub id.
        folder: folder of the weights on this machine.
        commit: of a hub id; None of other sources.
    """

    source: str
    folder: Path
    commit: str | None = None

    @property
    def has_refiner(self) -> bool:
        """Return whether they have a diffusion receiver."""
        return has_refiner(self.folder)

    def provenance(self, parts: Sequence[str]) -> str:
        """Return name and start of the hash of the loaded parts: "compact@1a2b3c"."""
        return f"{printable(Path(self.source).name)}@{weights_hash(self.folder, parts)}"


def find_weights(source: str | Path) -> Weights:
    """Find weights; nothing is converted.

    Args:
        source: name of bundled weights, a folder, or a hub id (downloaded once), see
            `find_folder`.

    Raises:
        WeightsError: there is no such folder, and no such hub id or no network.
    """
    folder = find_folder(source)
    return Weights(str(source), folder, commit_of(folder))


def open_weights(source: str | Path) -> Weights:
    """Find weights; a checkpoint that the paper's authors released is converted first, once.

    Args:
        source: see `find_weights`; a folder or hub id may be a released checkpoint's, and a file
            one of WITT's or SwinJSCC's authors.

    Raises:
        WeightsError: as `find_weights`, or the released checkpoint cannot be converted.
        OSError: there is no room for what is converted.
    """
    if Path(source).is_file():
        return Weights(str(source), _converted(source, Path(source)))
    found = find_weights(source)
    folder = found.folder
    if not (folder / "codec" / "config.json").is_file() and any(
        (folder / name).is_file() for name in (CONFIG_NAME, CHECKPOINT_NAME)
    ):
        return replace(found, folder=_converted(source, folder))
    return found


def load_codec(
    source: str | Path, parts: Parts = "both", device: torch.device | str = "cpu"
) -> JointCodec:
    """Load a codec of one round, ready for inference, as float32.

    Args:
        source: see `open_weights`.
        parts: "transmitter" or "receiver" reads and keeps that end only.
        device: device of the codec.

    Raises:
        WeightsError: missing or damaged files, tensors that do not fit the architecture, or a codec
            of several rounds.
    """
    codec = read_codec(open_weights(source).folder, parts, device)
    if not isinstance(codec, JointCodec):
        raise WeightsError(
            f'weights "{source}" hold {type(codec).__name__}, a codec of several rounds; a codec '
            "of one round is needed here"
        )
    return codec


def _converted(source: str | Path, folder: Path) -> Path:
    """Return the folder of a released checkpoint's converted weights; convert it if needed.

    Args:
        source: hub id, folder or file of the checkpoint.
        folder: folder of its files; for a hub id, that of the commit in the cache; or the file.
    """
    from huggingface_hub import cached_assets_path, constants  # noqa: PLC0415 - slow
    from huggingface_hub.utils import WeakFileLock  # noqa: PLC0415

    if folder.is_file() or Path(source).is_dir():
        key = f"{resolved(folder).name}-{_stamp(folder)}"
    else:
        key = f"{split_revision(str(source))[0].replace('/', '--')}-{folder.name}"
    try:
        cache: Path = cached_assets_path(
            "diffjscc", "weights", "converted", assets_dir=constants.HF_ASSETS_CACHE
        )
        target = cache / key
        if target.is_dir():
            return target
        # A second process waits for the first and finds the converted weights.
        with WeakFileLock(cache / f".{key}.lock"):
            if not target.is_dir():
                if folder.is_file():
                    from diffjscc.pretrained.convert import published  # noqa: PLC0415

                    published.convert_published(folder, target)
                else:
                    from diffjscc.pretrained.convert import released  # noqa: PLC0415

                    released.convert_released(source, target)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise WeightsError(
            f"the converted checkpoint cannot be kept: {error}; set HF_HOME to a folder that can "
            f"be written, or run `diffjscc convert {source} FOLDER` and load that folder"
        ) from error
    return target


def _stamp(folder: Path) -> str:
    """Compute a fingerprint of a local checkpoint, from path, sizes and modification times."""
    facts = [str(resolved(folder))]
    files = [folder] if folder.is_file() else [folder / CONFIG_NAME, folder / CHECKPOINT_NAME]
    for file in files:
        if file.is_file():
            status = file.stat()
            facts.append(f"{status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]

"""Packs: decoded images in one memory-mapped file, so that training need not decode.

Format: magic, the images' bytes in sequence, a JSON index, the position of the index as a
little-endian 64-bit integer, magic. Packs are written under another name and renamed when complete.
"""

from __future__ import annotations

import json
import os
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import Progress

from diffjscc.data.files import atomic_write
from diffjscc.data.folders import ImageSource, fingerprint_of
from diffjscc.data.images import ImageError

_MAGIC = b"JSCCPAK1"
_TAIL = struct.Struct("<Q8s")
_CHUNK = 64  # images decoded before they are written; limits the memory


class _Entry(NamedTuple):
    """Index entry of an image."""

    name: str
    offset: int
    height: int
    width: int
    sha256: str
    caption: str | None


class _Index(BaseModel):
    """Index of a pack."""

    model_config = ConfigDict(strict=True)

    fingerprint: str
    images: list[_Entry]


def _fits(entry: _Entry, end: int) -> bool:
    """Return whether an image lies between the magic bytes and the index, which starts at `end`."""
    last = entry.offset + entry.height * entry.width * 3
    return entry.offset >= len(_MAGIC) and min(entry.height, entry.width) > 0 and last <= end


class _Decoded(NamedTuple):
    """Decoded image to be written."""

    pixels: NDArray[np.uint8]
    sha256: str
    caption: str | None


def is_pack(path: Path) -> bool:
    """Return whether a file begins with the magic bytes of a pack."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class PackedSource:
    """Images of a pack; reading an image reads its own bytes only.

    Attributes:
        names: names in the source; unreadable images of the source are missing.
        fingerprint: hash of the source's fingerprint and of `short_side`.

    Raises:
        ImageError: the file is missing or is not a complete pack.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        try:
            with path.open("rb") as file:
                head = file.read(len(_MAGIC))
                end = file.seek(0, os.SEEK_END) - _TAIL.size
                file.seek(max(end, 0))
                tail = file.read(_TAIL.size)
                position, magic = _TAIL.unpack(tail) if len(tail) == _TAIL.size else (0, b"")
                if head != _MAGIC or magic != _MAGIC or not len(_MAGIC) <= position <= end:
                    raise ImageError(path, "is not a complete pack", "remove it and pack again")
                file.seek(position)
                text = file.read(end - position)
            # Not pydantic's reader of JSON: it refuses names that are not Unicode.
            index = _Index.model_validate(json.loads(text))
            self._entries = [_Entry(*entry) for entry in index.images]
            whole = all(_fits(entry, position) for entry in self._entries)
        except ImageError:
            raise
        except OSError as error:
            raise ImageError(
                path, f"cannot be read ({error.strerror})", "check the path"
            ) from error
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            raise ImageError(path, "has a damaged index", "remove it and pack again")
        self._bytes = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        self.names: tuple[str, ...] = tuple(entry.name for entry in self._entries)
        self.fingerprint: str = index.fingerprint

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        entry = self._entries[index]
        size = entry.height * entry.width * 3
        pixels = self._bytes[entry.offset : entry.offset + size]
        return pixels.reshape(entry.height, entry.width, 3)

    def caption(self, index: int) -> str | None:
        """Return the caption of the source."""
        return self._entries[index].caption

    def sha256(self, index: int) -> str:
        """Return the SHA-256 of the original image file."""
        return self._entries[index].sha256


def _shrink(pixels: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    """Reduce to a short side of `short_side` pixels (Lanczos); smaller images are kept."""
    short = min(pixels.shape[:2])
    if short_side is None or short <= short_side:
        return pixels
    height, width = (round(side * short_side / short) for side in pixels.shape[:2])
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _prepare(source: ImageSource, short_side: int | None, index: int) -> _Decoded | ImageError:
    try:
        pixels = _shrink(source[index], short_side)
    except ImageError as error:
        return error
    return _Decoded(pixels, source.sha256(index), source.caption(index))


def pack_fingerprint(source: ImageSource, short_side: int | None) -> str:
    """Fingerprint of a pack of `source`, as it would be built now."""
    return fingerprint_of([(source.fingerprint, short_side or 0)])


def pack(
    source: ImageSource,
    path: str | Path,
    short_side: int | None = None,
    *,
    threads: int | None = None,
    progress: bool = True,
) -> PackedSource:
    """Decode all images of `source` into one file, or reuse the file if it is up to date.

    A pack of another source, of another size, or of files that have changed is rebuilt. An
    interrupted build leaves no pack and has to start over. Several processes may call this at
    once: each builds its own pack and the last one is kept, so with a large source let one process
    build it first. Unreadable images are omitted, with one warning.

    Args:
        source: source of the images.
        path: path of the pack; its folder is made if need be.
        short_side: larger images are reduced to this short side, in pixels; None keeps them.
        threads: number of decoding threads; one per processor by default.
        progress: whether to show a progress bar on stderr.

    Raises:
        ImageError: another kind of file is at `path`, or no image could be read.
        ValueError: `short_side` is below 1.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if short_side is not None and short_side < 1:
        raise ValueError(f"short_side is {short_side}; it must be at least 1 pixel, or None")
    fingerprint = pack_fingerprint(source, short_side)
    if path.is_file():
        if not is_pack(path):
            raise ImageError(path, "exists and is not a pack", "choose another name")
        packed = PackedSource(path)
        if packed.fingerprint == fingerprint:
            return packed
    entries: list[_Entry] = []
    unreadable: list[ImageError] = []
    bar = Progress(console=Console(stderr=True), disable=not progress, transient=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file, bar:
        file.write(_MAGIC)
        task = bar.add_task(f"packing {path.name}", total=len(source))
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            for start in range(0, len(source), _CHUNK):
                chunk = range(start, min(start + _CHUNK, len(source)))
                decoded = pool.map(partial(_prepare, source, short_side), chunk)
                for index, one in zip(chunk, decoded, strict=True):
                    bar.advance(task)
                    if isinstance(one, ImageError):
                        unreadable.append(one)
                        continue
                    height, width, _ = one.pixels.shape
                    entries.append(
                        _Entry(
                            source.names[index],
                            file.tell(),
                            height,
                            width,
                            one.sha256,
                            one.caption,
                        )
                    )
                    file.write(np.ascontiguousarray(one.pixels).data)
        if not entries:
            raise ImageError(
                path, f"none of the {len(source)} images could be read", f"first: {unreadable[0]}"
            )
        position = file.tell()
        index_text = json.dumps({"fingerprint": fingerprint, "images": entries})
        file.write(index_text.encode() + _TAIL.pack(position, _MAGIC))
    if unreadable:
        first = "; ".join(str(error) for error in unreadable[:3])
        warnings.warn(
            f"omitted {len(unreadable)} of {len(source)} images, which cannot be read: {first}",
            stacklevel=2,
        )
    return PackedSource(path)

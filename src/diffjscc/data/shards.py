"""Images in WebDataset shards: uncompressed .tar files, read at random."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from diffjscc.data.folders import clean_caption, fingerprint_of
from diffjscc.data.images import (
    ImageError,
    decode,
    is_image_name,
    natural_key,
    to_bytes,
    unique_stems,
)


@dataclass(frozen=True)
class _Member:
    """A file's position in a shard."""

    shard: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise ImageError(self.shard, "has become shorter", "fetch it again and start over")
        return content


def _index(shard: Path) -> dict[str, _Member]:
    """Member name to place, in the order of the shard; a repeated name means its last file."""
    members: dict[str, _Member] = {}
    try:
        with tarfile.open(shard, "r:") as tar, shard.open("rb") as file:
            for member in tar:
                if member.isreg() and not member.issparse():
                    name = PurePosixPath(member.name).as_posix()
                    members[name] = _Member(shard, member.offset_data, member.size)
            file.seek(tar.offset)
            end = file.read(tarfile.BLOCKSIZE)
    except tarfile.TarError as error:
        raise ImageError(
            shard,
            f"is not a whole, uncompressed tar file ({error})",
            "decompress or fetch it again",
        ) from error
    except OSError as error:
        raise ImageError(shard, f"cannot be read ({error.strerror})", "check the path") from error
    if end != bytes(tarfile.BLOCKSIZE):  # tarfile itself stops in silence here
        raise ImageError(
            shard, f"is damaged or cut short after {len(members)} files", "fetch it again"
        )
    return members


def _split_name(name: str) -> tuple[str, str]:
    """WebDataset's key and extension, split where the file's name parts at its first dot."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    return str(path.with_name(stem)) if stem else "", extension


class ShardSource:
    """The images in tar shards, in the order of the shards and within each; captions in .txt.

    All shards are indexed once, in memory; an image is then one seek and one read.

    Args:
        shards: uncompressed tar files.

    Raises:
        ImageError: a shard is missing, compressed, damaged, or none holds an image.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self._images: list[_Member] = []
        self._captions: dict[int, _Member] = {}
        names: list[str] = []
        for label, shard in zip(unique_stems(shards), shards, strict=True):
            members = _index(shard)
            for name, member in members.items():
                key, extension = _split_name(name)
                if not key or not is_image_name(f"x.{extension}") or "." in extension:
                    continue
                if (text := members.get(f"{key}.txt")) is not None:
                    self._captions[len(names)] = text
                names.append(f"{label}/{name}")
                self._images.append(member)
        if not names:
            listed = ", ".join(str(shard) for shard in shards[:3]) or "no shards"
            raise ImageError(listed, "no image is in there", "check which shards are named")
        self.names: tuple[str, ...] = tuple(names)
        sizes = [member.size for member in self._images]
        self.fingerprint = fingerprint_of(zip(self.names, sizes, strict=True))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        member = self._images[index]
        return to_bytes(decode(io.BytesIO(member.read()), f"{member.shard}:{self.names[index]}"))

    def caption(self, index: int) -> str | None:
        """The text of the .txt member of the same key, if there is one."""
        member = self._captions.get(range(len(self))[index])
        return clean_caption(member.read()) if member else None

    def sha256(self, index: int) -> str:
        """SHA-256 of the member's bytes."""
        return hashlib.sha256(self._images[index].read()).hexdigest()


def expand_braces(pattern: str) -> list[str]:
    """`{00..11}` and `{a,b}` written out, as a shell does; no braces give the pattern itself."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        return [pattern]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", braces[1])
    if numbers:
        first, last = numbers.groups()
        if int(first) > int(last):
            raise ImageError(pattern, f"{{{braces[1]}}} runs backwards", "swap its ends")
        width = len(first) if first.startswith("0") else 0
        options = [f"{n:0{width}d}" for n in range(int(first), int(last) + 1)]
    else:
        options = braces[1].split(",")
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [text for option in options for text in expand_braces(before + option + after)]


def find_shards(pattern: str | Path) -> list[Path]:
    """The shards that a folder, a file or a brace or glob pattern names, in natural order.

    Raises:
        ImageError: a shard that the braces ask for is missing, or a pattern matches none.
    """
    path = Path(pattern)
    if path.is_dir():
        found = list(path.glob("*.tar"))
    elif path.exists():
        found = [path]
    else:
        found = []
        for text in expand_braces(str(pattern)):
            one = Path(text)
            matches = list(Path(one.anchor).glob(str(one.relative_to(one.anchor))))
            if not matches:
                raise ImageError(one, "does not exist", f"check the pattern {pattern}")
            found.extend(matches)
    return sorted(set(found), key=lambda shard: natural_key(str(shard)))

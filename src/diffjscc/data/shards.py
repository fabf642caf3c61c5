"""Images in WebDataset shards: uncompressed .tar files with random access."""

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
from diffjscc.data.images import ImageError, decode, is_image_name, to_bytes
from diffjscc.data.search import natural_key, unique_stems


@dataclass(frozen=True)
class _Member:
    """Position of a file in a shard."""

    shard: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise ImageError(
                self.shard, "was truncated while in use", "download it again and restart"
            )
        return content


def _index(shard: Path) -> dict[str, _Member]:
    """Index the members of a shard in their order; of a repeated name the last file counts."""
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
            f"is not a complete, uncompressed tar file ({error})",
            "decompress it or download it again",
        ) from error
    except OSError as error:
        raise ImageError(shard, f"cannot be read ({error.strerror})", "check the path") from error
    if end != bytes(tarfile.BLOCKSIZE):  # tarfile stops silently here
        raise ImageError(
            shard, f"is damaged or truncated after {len(members)} files", "download it again"
        )
    return members


def _split_name(name: str) -> tuple[str, str]:
    """Split a name into WebDataset's key and extension, at the first dot of the file name."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    return str(path.with_name(stem)) if stem else "", extension


class ShardSource:
    """Images in tar shards, in the order of the shards and of their members; captions in .txt.

    All shards are indexed once, in memory; reading an image takes one seek and one read.

    Args:
        shards: uncompressed tar files.

    Raises:
        ImageError: a shard is missing, compressed or damaged, or no shard contains an image.
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
            raise ImageError(listed, "contains no images", "check the names of the shards")
        self.names: tuple[str, ...] = tuple(names)
        sizes = [member.size for member in self._images]
        self.fingerprint = fingerprint_of(zip(self.names, sizes, strict=True))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        member = self._images[index]
        return to_bytes(decode(io.BytesIO(member.read()), f"{member.shard}:{self.names[index]}"))

    def caption(self, index: int) -> str | None:
        """Read the caption from the .txt member with the same key; None if there is none."""
        member = self._captions.get(range(len(self))[index])
        return clean_caption(member.read()) if member else None

    def sha256(self, index: int) -> str:
        """Compute the SHA-256 of the member's bytes."""
        return hashlib.sha256(self._images[index].read()).hexdigest()


def expand_braces(pattern: str) -> list[str]:
    """Expand `{00..11}` and `{a,b}` as a shell does; without braces, return the pattern."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        return [pattern]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", braces[1])
    if numbers:
        first, last = numbers.groups()
        if int(first) > int(last):
            raise ImageError(pattern, f"{{{braces[1]}}} is descending", "swap its ends")
        width = len(first) if first.startswith("0") else 0
        options = [f"{n:0{width}d}" for n in range(int(first), int(last) + 1)]
    else:
        options = braces[1].split(",")
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [text for option in options for text in expand_braces(before + option + after)]


def find_shards(pattern: str | Path) -> list[Path]:
    """Find the shards given by a folder, a file, or a brace or glob pattern, in natural order.

    Raises:
        ImageError: a shard named by the braces is missing, or a pattern matches none.
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

"""Images in WebDataset shards: uncompressed .tar files with random access."""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import tarfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from diffjscc.data.folders import clean_caption, fingerprint_of, visible_files
from diffjscc.data.images import ImageError, decode, is_image_name, to_bytes
from diffjscc.data.passed_over import is_other_image, warn_unreadable_kinds
from diffjscc.data.search import natural_key, unique_stems


@dataclass(frozen=True)
class _Member:
    """Position of a file in a shard."""

    shard: Path
    offset: int
    size: int

    def read(self) -> bytes:
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise ImageError(
                self.shard, f"cannot be read ({error.strerror})", "check that it is still there"
            ) from error
        if len(content) < self.size:
            raise ImageError(
                self.shard, "was truncated while in use", "download it again and restart"
            )
        return content


def _index(shard: Path) -> dict[str, _Member]:
    """Index the members of a shard in their order; of a repeated name the last file counts."""
    members: dict[str, _Member] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as tar, shard.open("rb") as file:
            for member in tar:
                name = PurePosixPath(member.name).as_posix()
                if member.isreg() and not member.issparse():
                    members[name] = _Member(shard, member.offset_data, member.size)
                elif member.islnk() or member.issym():
                    links[name] = _target(name, member)
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
    for name, target in links.items():
        if target in members:
            members.setdefault(name, members[target])
    return members


def _target(name: str, link: tarfile.TarInfo) -> str:
    """Name of the member that a link stands for; a symbolic link is relative to its folder."""
    start = "" if link.islnk() else posixpath.dirname(name)
    return posixpath.normpath(posixpath.join(start, link.linkname))


def _split_name(name: str) -> tuple[str, str]:
    """Split a name into WebDataset's key and extension, at the first dot of the file name."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    return str(path.with_name(stem)) if stem else "", extension


def _chosen(members: Mapping[str, _Member]) -> tuple[list[tuple[str, str]], list[str]]:
    """Choose the images among the members of a shard.

    Returns:
        Names and keys of the images in their order, and names of images that are passed over.
    """
    images = [name for name in members if is_image_name(PurePosixPath(name).name)]
    plain = {key for key, extension in map(_split_name, images) if "." not in extension}
    chosen, passed = [], []
    for name in images:
        key, extension = _split_name(name)
        if "." not in extension:
            chosen.append((name, key))
        elif key in plain:
            passed.append(name)
        else:
            chosen.append((name, posixpath.splitext(name)[0]))
    return chosen, passed


def _warn_passed(passed: Sequence[str]) -> None:
    """Say which images of the shards are not used, and why."""
    if passed:
        name = PurePosixPath(passed[0]).name
        key = _split_name(passed[0])[0]
        warnings.warn(
            f"passed over {len(passed)} images in tar shards, such as {name}: in WebDataset a name "
            f"ends at its first dot, so it belongs to another image's sample, "
            f"{PurePosixPath(key).name}; rename it if it is an image of its own",
            stacklevel=3,
        )


class ShardSource:
    """Images in tar shards, in the order of the shards and of their members; captions in .txt.

    As in WebDataset, an image's name without its folder ends at the first dot, its key: `0.png`
    has its caption in `0.txt`. Images with several dots (`IMG.2024.05.JPG`) are images of their
    own where no plainly named one has the key; beside one (`0.depth.png` beside `0.png`) they are
    another view of it, and passed over with a warning that counts them. Suffixes in upper case,
    subfolders and links to members count too; of a repeated name the last file counts.

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
        passed: list[str] = []
        unreadable: list[str] = []
        for label, shard in zip(unique_stems(shards), shards, strict=True):
            members = _index(shard)
            texts = {n[:-4]: members[n] for n in members if n[-4:].lower() == ".txt"}
            images, views = _chosen(members)
            passed += views
            unreadable += filter(is_other_image, members)
            for name, key in images:
                if (text := texts.get(key)) is not None:
                    self._captions[len(names)] = text
                names.append(f"{label}/{name}")
                self._images.append(members[name])
        _warn_passed(passed)
        warn_unreadable_kinds("tar shards", unreadable)
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

    A folder is searched recursively; hidden files and folders are skipped.

    Raises:
        ImageError: a shard named by the braces is missing, or a pattern matches none.
    """
    path = Path(pattern)
    if path.is_dir():
        found = [path / name for name in visible_files(path) if name.lower().endswith(".tar")]
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

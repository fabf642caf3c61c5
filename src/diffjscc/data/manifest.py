"""Manifest of a dataset: the hash of every image, which determines its split."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import Progress

from diffjscc.data.files import atomic_write
from diffjscc.data.folders import ImageSource, Subset
from diffjscc.data.images import ImageError

Split = Literal["train", "validation"]


def split_of(sha256: str, validation_fraction: float) -> Split:
    """Assign an image to a split by its hash alone.

    Copies of an image are always in the same split, and a larger fraction only moves images from
    train to validation.

    Args:
        sha256: SHA-256 of the image file, hexadecimal.
        validation_fraction: fraction of validation images, in [0, 1].
    """
    return "validation" if int(sha256[:16], 16) / 2**64 < validation_fraction else "train"


@dataclass(frozen=True)
class Entry:
    """One image of a manifest.

    Attributes:
        name: name in the source.
        sha256: SHA-256 of the image file, 64 hexadecimal digits.
        split: "train" or "validation".
    """

    name: str
    sha256: str
    split: Split


@dataclass(frozen=True)
class Manifest:
    """Manifest of all images of a source, in its order."""

    entries: tuple[Entry, ...]

    def select(self, source: ImageSource, split: Split) -> Subset:
        """Select the images of `source` that are in `split`.

        Entries missing from the source are ignored, since a pack omits unreadable images.

        Raises:
            ValueError: an image of the source is not in the manifest, or none is in the split.
        """
        splits = {entry.name: entry.split for entry in self.entries}
        unknown = [name for name in source.names if name not in splits]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(source)} images are not in the manifest, the first is "
                f"{unknown[0]}; write the manifest of this source again"
            )
        chosen = [index for index, name in enumerate(source.names) if splits[name] == split]
        if not chosen:
            raise ValueError(
                f"none of the {len(source)} images is in the {split} split; write the manifest "
                "with another validation_fraction"
            )
        return Subset(source, chosen)


def write_manifest(
    source: ImageSource, path: str | Path, validation_fraction: float, *, progress: bool = True
) -> Manifest:
    """Hash every image of `source` and write its manifest as JSON lines, atomically.

    Args:
        source: source of the images; each file is read once.
        path: the file to write; its folder must exist.
        validation_fraction: see `split_of`.
        progress: whether to show a progress bar on stderr.

    Raises:
        ValueError: `validation_fraction` is not in [0, 1].
        OSError: an image cannot be read, or the manifest cannot be written.
    """
    if not 0 <= validation_fraction <= 1:
        raise ValueError(f"validation_fraction is {validation_fraction}; it must be in [0, 1]")
    entries = []
    bar = Progress(console=Console(stderr=True), disable=not progress, transient=True)
    with bar, atomic_write(Path(path)) as temporary:
        task = bar.add_task("hashing", total=len(source))
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for index, name in enumerate(source.names):
                digest = source.sha256(index)
                entry = Entry(name, digest, split_of(digest, validation_fraction))
                file.write(json.dumps(asdict(entry)) + "\n")
                entries.append(entry)
                bar.advance(task)
    return Manifest(tuple(entries))


_ENTRY = TypeAdapter(Entry)


def _entries(path: Path, text: str) -> Iterator[Entry]:
    names: set[str] = set()
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            # Not pydantic's reader of JSON: it refuses names that are not Unicode.
            entry = _ENTRY.validate_python(json.loads(line))
            int(entry.sha256, 16)
        except (ValueError, RecursionError) as error:
            first = str(error).splitlines()[0]
            raise ImageError(
                path, f"line {number} is not a manifest entry ({first})", "write the manifest again"
            ) from error
        if entry.split not in get_args(Split) or len(entry.sha256) != 64 or entry.name in names:
            raise ImageError(
                path,
                f'line {number} has an unknown split "{entry.split}", a hash that is not 64 digits '
                "or a repeated name",
                "write the manifest again",
            )
        names.add(entry.name)
        yield entry


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest.

    Raises:
        ImageError: the file is missing, or a line of it is not valid; the error names it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(path, f"cannot be read ({error})", "check the path") from error
    return Manifest(tuple(_entries(path, text)))

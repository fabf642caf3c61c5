"""Sources of training images: the protocol, and image folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffjscc.data.files import sha256_of
from diffjscc.data.images import ImageError, is_image_name, read_pixels, to_bytes
from diffjscc.data.passed_over import is_other_image, warn_unreadable_kinds


class ImageSource(Protocol):
    """Indexed collection of images in a fixed order."""

    @property
    def names(self) -> Sequence[str]:
        """Unique names of the images."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash that changes if an image is added, removed, renamed or changes its size in bytes."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Read an image as uint8 [H, W, 3], not to be modified; ImageError if it is damaged."""
        ...

    def caption(self, index: int) -> str | None:
        """Return the caption of an image, or None."""
        ...

    def sha256(self, index: int) -> str:
        """Return the SHA-256 of the image file as 64 hexadecimal digits."""
        ...


def fingerprint_of(parts: Iterable[tuple[str, int]]) -> str:
    """Hash names and sizes in bytes, in their order."""
    digest = hashlib.sha256()
    for name, size in parts:
        digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def clean_caption(text: bytes) -> str | None:
    """Decode the text of a caption file; None if it is blank."""
    return text.decode("utf-8", "replace").strip() or None


def visible_files(folder: Path) -> Iterator[str]:
    """Yield the files in a folder and its subfolders, relative to it; hidden ones are skipped.

    Raises:
        OSError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:  # os.walk would silently skip the folder
        raise error

    for root, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(root) / name).relative_to(folder).as_posix()


class FolderSource:
    """Image files in a folder and its subfolders, with captions in .txt files beside them.

    Args:
        folder: searched recursively; hidden files and folders are skipped.

    Raises:
        ImageError: the folder is missing, unreadable or without images.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            if not self.folder.is_dir():
                raise ImageError(folder, "is not a folder", "check the path")
            files = sorted(visible_files(self.folder))
            self.names: tuple[str, ...] = tuple(filter(is_image_name, files))
            sizes = [(self.folder / name).stat().st_size for name in self.names]
        except OSError as error:
            raise ImageError(
                error.filename or folder,
                f"cannot be read ({error.strerror})",
                "check the permissions",
            ) from error
        warn_unreadable_kinds(str(folder), list(filter(is_other_image, files)))
        if not self.names:
            raise ImageError(folder, "contains no images", "check the path")
        self.fingerprint = fingerprint_of(zip(self.names, sizes, strict=True))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return to_bytes(read_pixels(self.folder / self.names[index]))

    def caption(self, index: int) -> str | None:
        """Read the caption from the .txt file with the same stem; None if there is none."""
        beside = (self.folder / self.names[index]).with_suffix(".txt")
        return clean_caption(beside.read_bytes()) if beside.is_file() else None

    def sha256(self, index: int) -> str:
        """Return the SHA-256 of the file."""
        return sha256_of(self.folder / self.names[index])


class Joined:
    """Images of several sources, one source after the other; a source may occur several times."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self.sources = tuple(sources)
        self.places = [(n, i) for n, own in enumerate(sources) for i in range(len(own))]
        self.names: tuple[str, ...] = tuple(f"{n}/{sources[n].names[i]}" for n, i in self.places)

    @property
    def fingerprint(self) -> str:
        """Hash of the fingerprints of all sources, in their order."""
        return fingerprint_of([(source.fingerprint, 0) for source in self.sources])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        source, own = self.places[index]
        return self.sources[source][own]

    def caption(self, index: int) -> str | None:
        """See `ImageSource.caption`."""
        source, own = self.places[index]
        return self.sources[source].caption(own)

    def sha256(self, index: int) -> str:
        """See `ImageSource.sha256`."""
        source, own = self.places[index]
        return self.sources[source].sha256(own)


class Subset:
    """Subset of another source, in the order of `indices`."""

    def __init__(self, source: ImageSource, indices: Sequence[int]) -> None:
        self.source, self.indices = source, tuple(indices)
        self.names: tuple[str, ...] = tuple(source.names[index] for index in self.indices)

    @property
    def fingerprint(self) -> str:
        """Hash of the source's fingerprint and the names of the images."""
        return fingerprint_of([(self.source.fingerprint, 0), *((n, 0) for n in self.names)])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self.source[self.indices[index]]

    def caption(self, index: int) -> str | None:
        """See `ImageSource.caption`."""
        return self.source.caption(self.indices[index])

    def sha256(self, index: int) -> str:
        """See `ImageSource.sha256`."""
        return self.source.sha256(self.indices[index])

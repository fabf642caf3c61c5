"""Images of one size in a NumPy file: the usual form of data sets of small images."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffjscc.data.folders import fingerprint_of
from diffjscc.data.images import ImageError


class ArraySource:
    """An `ImageSource` of an .npz file that holds one array of images, uint8 [N, H, W, 3].

    Other arrays, such as labels, are passed over. The images are read into memory; pickled objects
    are refused.

    Args:
        path: the file.

    Raises:
        ImageError: it cannot be read, or holds no such array or several.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: array for name in file.files if _images(array := file[name])}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:200]
            raise ImageError(
                path, f"cannot be read ({reason})", "write it by numpy.savez"
            ) from error
        if len(found) != 1:
            raise ImageError(
                path,
                f"holds {len(found)} arrays of images",
                "give it one, uint8 of shape [N, height, width, 3]",
            )
        self.images: NDArray[np.uint8] = next(iter(found.values()))
        width = len(str(len(self.images) - 1))
        self.names: Sequence[str] = tuple(f"{n:0{width}}" for n in range(len(self.images)))
        self.fingerprint = fingerprint_of([(hashlib.sha256(self.images.data).hexdigest(), 0)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self.images[index]
        return image

    def caption(self, index: int) -> str | None:
        """Return None: there are no captions."""
        del index
        return None

    def sha256(self, index: int) -> str:
        """SHA-256 of the image's bytes."""
        return hashlib.sha256(np.ascontiguousarray(self.images[index]).data).hexdigest()


def _images(array: NDArray[np.generic]) -> bool:
    shape = array.shape
    return array.dtype == np.uint8 and len(shape) == 4 and shape[3] == 3 and min(shape) > 0

"""Images that the page shows, as files for browsers."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diffjscc.data.files import atomic_write
from diffjscc.data.images import to_levels
from diffjscc.evaluation.records import Record

Pixels = NDArray[np.uint8]

_COMPRESSION = 3  # of PNG: a third of the time of the default 6, files 3 % larger


@dataclass(frozen=True, eq=False)
class Shown:
    """An image on the page and what is known of it.

    Attributes:
        name: of the scheme, for readers.
        png: the image as PNG; None where there is none, or none yet.
        record: of its transmission; None for the original, and where nothing was sent.
        words: the state of the work, or the reason where there is no image.
    """

    name: str
    png: bytes | None = None
    record: Record | None = None
    words: str = ""

    @property
    def caption(self) -> str:
        """The name and, if there is one, the outage, the state of the work or the reason."""
        if self.record is not None:
            return f"{self.name}: outage" if self.record.outage else self.name
        return f"{self.name}: {self.words.partition(':')[0]}" if self.words else self.name

    @cached_property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels; None without an image."""
        return None if self.png is None else Image.open(io.BytesIO(self.png)).size


def pixels(image: Tensor) -> Pixels:
    """Convert an image [3, H, W], levels or floats in [0, 1], to uint8 [H, W, 3]."""
    levels = image if image.dtype == torch.uint8 else to_levels(image)
    found: Pixels = levels.permute(1, 2, 0).cpu().numpy()
    return found


def as_png(image: Tensor | Pixels) -> bytes:
    """Encode an image, a tensor as for `pixels` or uint8 [H, W, 3], as PNG."""
    array = pixels(image) if isinstance(image, Tensor) else image
    return _png(Image.fromarray(np.ascontiguousarray(array)))


def blank(size: tuple[int, int]) -> bytes:
    """Encode a light grey image of this width and height as PNG."""
    return _png(Image.new("L", size, 230))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=_COMPRESSION)
    return file.getvalue()


class Files:
    """PNG files for browsers, each written whole, and once however many components show it.

    The server deletes old ones; they are written again when they are shown again. A path cannot be
    guessed from the image in the file.

    Args:
        folder: that the server serves.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secret = secrets.token_bytes(32)

    def path(self, png: bytes | None, name: str) -> str | None:
        """Return the path of the file of an image, whose name begins like `name`."""
        if png is None:
            return None
        digest = hashlib.blake2b(png, key=self._secret, digest_size=20).hexdigest()
        path = self._folder / digest / f"{name.partition(' ')[0]}.png"
        try:
            os.utime(path)  # age counts from when it was last shown
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_bytes(png)
        return str(path)

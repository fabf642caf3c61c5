"""Images to transmit: their pixels, hash and random numbers."""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffjscc.arrays import levels_to_floats
from diffjscc.data.images import load_stored, to_levels
from diffjscc.data.search import find_images, unique_stems
from diffjscc.evaluation.results import ImageInfo
from diffjscc.paths import printable

LARGE = 16_000_000  # pixels of an image of which a warning says that it takes its time
KEPT_BYTES = 256_000_000  # of images that a sweep keeps in memory


@dataclass(frozen=True, eq=False)
class SourceImage:
    """An image to transmit.

    Attributes:
        name: its file, or any other name.
        stored: 8-bit levels, uint8 [3, H, W], or float32 [3, H, W] in [0, 1]. Levels take a quarter
            of the memory.
    """

    name: str
    stored: Tensor

    def __post_init__(self) -> None:
        # Another layout in memory would round other last digits.
        object.__setattr__(self, "stored", self.stored.contiguous())

    @property
    def pixels(self) -> Tensor:
        """Float32 [3, H, W] in [0, 1]."""
        stored = self.stored
        return levels_to_floats(stored) if stored.dtype == torch.uint8 else stored

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.stored.shape[-2:]
        return height, width

    @classmethod
    def read(cls, path: Path, name: str | None = None, max_side: int | None = None) -> SourceImage:
        """Read the image in a file.

        Args:
            path: of the file.
            name: of the image; None takes the file's.
            max_side: larger images are reduced to this longest side, in pixels.
        """
        stored = load_stored(path, max_side)
        return cls.checked(printable(str(path)) if name is None else name, stored)

    @classmethod
    def checked(cls, name: str, stored: Tensor) -> SourceImage:
        """Make an image, with a warning if it is so large that it takes its time."""
        image = cls(name, stored)
        if image.stored[0].numel() > LARGE:
            warnings.warn(
                f"images above {LARGE / 1e6:.0f} megapixels take minutes each; "
                "--max-side 2048 (a setting of sweeps: max_side=2048) sends them smaller",
                stacklevel=3,
            )
        return image

    @cached_property
    def grey(self) -> bool:
        """Return whether it has no colours: then nor have the images that a receiver delivers."""
        red, green, blue = self.stored
        return torch.equal(red, green) and torch.equal(green, blue)

    @cached_property
    def digest(self) -> str:
        """Start of the SHA-256 of its 8-bit pixels, 16 hexadecimal digits."""
        return hashlib.sha256(_levels(self.stored)).hexdigest()[:16]

    @cached_property
    def _checksum(self) -> int:
        return zlib.crc32(_levels(self.stored))

    @property
    def info(self) -> ImageInfo:
        """Name, hash and size."""
        height, width = self.size
        return ImageInfo(self.name, self.digest, width, height)

    def generator(self, seed: int, repeat: int) -> torch.Generator:
        """Random numbers that depend on the seed, the pixels and the repeat, on nothing else."""
        entropy = [seed, self._checksum, repeat]
        state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> 1))


def _levels(image: Tensor) -> bytes:
    """The 8-bit pixels of an image [3, H, W]: levels, or in [0, 1]."""
    levels = image if image.dtype == torch.uint8 else to_levels(image)
    return levels.cpu().numpy().tobytes()


class SweepImages:
    """The images of a sweep, read when they are needed.

    Args:
        patterns: files, folders or glob patterns.
        crop: side of the square in the middle that is taken of each image, in pixels; None takes
            it whole.
        max_side: larger images are reduced to this longest side first, in pixels.

    Attributes:
        paths: of the files.
        names: short and distinct, of the files.

    Raises:
        ValueError: no image is found.
    """

    def __init__(
        self, patterns: Sequence[str], crop: int | None, max_side: int | None = None
    ) -> None:
        self.paths = find_images(patterns)
        self.names = unique_stems(self.paths)
        self.crop, self.max_side = crop, max_side
        self._kept: dict[int, SourceImage] = {}
        self._coming: dict[int, Future[SourceImage]] = {}
        self._reader = ThreadPoolExecutor(1)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> SourceImage:
        """Read an image, or its middle.

        Raises:
            ValueError: it is no image, or smaller than the crop.
        """
        if index not in self._kept:
            coming = self._coming.pop(index, None)
            self._kept[index] = self._load(index) if coming is None else coming.result()
            while len(self._kept) > 1 and self._bytes() > KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
        return self._kept[index]

    def read_ahead(self, indices: Sequence[int]) -> None:
        """Begin to read images in the background that are not in memory."""
        for index in indices:
            if index not in self._kept and index not in self._coming:
                self._coming[index] = self._reader.submit(self._load, index)

    def _bytes(self) -> int:
        return sum(image.stored.nbytes for image in self._kept.values())

    def infos(self) -> list[ImageInfo]:
        """Names, hashes and sizes; reads all files."""
        return [self[index].info for index in range(len(self))]

    def _load(self, index: int) -> SourceImage:
        image = SourceImage.read(self.paths[index], self.names[index], self.max_side)
        side = self.crop
        if side is None:
            return image
        height, width = image.size
        if min(height, width) < side:
            raise ValueError(
                f"{self.paths[index]} is {width}x{height}; no square of {side} pixels can be "
                "taken from it (leave it out, or crop less)"
            )
        top, left = (height - side) // 2, (width - side) // 2
        return SourceImage(image.name, image.stored[:, top : top + side, left : left + side])

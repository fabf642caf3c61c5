"""Images of which some cannot be read: these are left out, named and counted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffjscc.data.folders import ImageSource
from diffjscc.data.images import ImageError

NAMED = 20  # left-out images with a message of their own
TRIES = 64  # images tried in place of one that cannot be read


class ReadableImages:
    """An `ImageSource` that gives another image in place of one that cannot be read.

    Which one follows from the number of the image alone: training sees the same images whether it
    is resumed or not, and in any number of processes. Nothing is decoded ahead of time.

    Args:
        source: the images.

    Attributes:
        left_out: numbers of the images that turned out to be unreadable so far.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.left_out: set[int] = set()

    @property
    def names(self) -> Sequence[str]:
        """Names of the source."""
        return self.source.names

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the source."""
        return self.source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Read image `index`, or the one in its place.

        Raises:
            ImageError: neither it nor any of `TRIES` others can be read.
        """
        image = self._read(index)
        if isinstance(image, ImageError):
            last = image
            order = np.random.default_rng(index).permutation(len(self))
            for other in order[:TRIES]:
                image = self._read(int(other))
                if not isinstance(image, ImageError):
                    return image
                last = image
            raise ImageError(
                last.path,
                f"{last.problem}, nor could {min(TRIES, len(self))} other images be read",
                "check that the images are there and whole",
            )
        return image

    def caption(self, index: int) -> str | None:
        """See `ImageSource.caption`."""
        return self.source.caption(index)

    def sha256(self, index: int) -> str:
        """See `ImageSource.sha256`."""
        return self.source.sha256(index)

    def _read(self, index: int) -> NDArray[np.uint8] | ImageError:
        if index in self.left_out:
            return ImageError(self.names[index], "cannot be read", "replace it")
        try:
            return self.source[index]
        except ImageError as error:
            self.left_out.add(index)
            count = len(self.left_out)
            if count <= NAMED or count & (count - 1) == 0:  # then at every power of two
                warnings.warn(f"left out: {error} ({count} so far)", stacklevel=2)
            return error


def report_left_out(images: ReadableImages | None) -> None:
    """Warn of the images that were left out, if any, with their number and the first names."""
    if images is None or not images.left_out:
        return
    names = [images.names[index] for index in sorted(images.left_out)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    warnings.warn(
        f"{len(names)} of {len(images)} images could not be read and were left out: "
        f"{', '.join(names[:NAMED])}{more}",
        stacklevel=2,
    )


def readable_numbers(source: ImageSource, count: int) -> list[int]:
    """Numbers of the first `count` images that can be read; each other one is named by a warning.

    Raises:
        ImageError: none can be read.
    """
    numbers: list[int] = []
    first: ImageError | None = None
    for number in range(len(source)):
        if len(numbers) == count:
            break
        try:
            source[number]
        except ImageError as error:
            first = first or error
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        numbers.append(number)
    if first is not None and not numbers:
        raise ImageError(first.path, f"{first.problem}, as are all others", "give other images")
    return numbers

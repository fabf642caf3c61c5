"""Batches of random crops, functions of seed and step only, so that training resumes exactly."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diffjscc.data.folders import ImageSource
from diffjscc.data.readable import ReadableImages

T = TypeVar("T")

# (image uint8 [H, W, 3], side in pixels, random numbers) to a square uint8 [side, side, 3].
Cut = Callable[[NDArray[np.uint8], int, np.random.Generator], NDArray[np.uint8]]


def random_crop(image: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Crop a square at a random position, with a random horizontal flip.

    From an image smaller than `size`, the largest square is taken and enlarged (Lanczos).

    Args:
        image: uint8 [H, W, 3].
        size: side of the crop, in pixels.
        rng: source of three random numbers, whatever the image.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    side = min(size, height, width)
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = image[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if side < size:
        enlarged = Image.fromarray(np.ascontiguousarray(crop)).resize(
            (size, size), Image.Resampling.LANCZOS
        )
        crop = np.asarray(enlarged)
    return crop


class EpochOrder:
    """Order of the images, another in each epoch, which contains each image once.

    Args:
        seed: another seed gives another order.
        images: how many there are.
        batch: images per iteration.
    """

    def __init__(self, seed: int, images: int, batch: int) -> None:
        self.images, self.batch = images, batch
        # A batch rarely spans more than two epochs; an order is as long as the source.
        self._order = functools.lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(images)
        )

    def share(self, step: int, process_index: int, process_count: int) -> list[int]:
        """List the numbers of one process's equal part of iteration `step`'s batch."""
        share = self.batch // process_count
        places = range(process_index * share, (process_index + 1) * share)
        return [self(step, place) for place in places]

    def __call__(self, step: int, place: int) -> int:
        """Number of the image at a place of iteration `step`'s batch."""
        epoch, position = divmod(step * self.batch + place, self.images)
        return int(self._order(epoch)[position])


class TrainingCrops:
    """Training batches by step number.

    Every epoch has each image once, in a new random order; a batch may extend into the next epoch.
    Batches have no state: that of step 1000 is the same whether the 999 before it were read or not,
    and for any number of processes.

    Args:
        source: the images; others take the place of those that cannot be read.
        crop: side of the crops, in pixels, at least 1.
        seed: at least 0; determines orders, crops and flips.
        batch: images per step, summed over all processes, at least 1.
        cut: cuts the crops; see also `training.augmentation`.
    """

    def __init__(
        self, source: ImageSource, crop: int, seed: int, batch: int, cut: Cut = random_crop
    ) -> None:
        if crop < 1 or batch < 1 or seed < 0:
            raise ValueError(
                f"crop is {crop}, batch {batch}, seed {seed}; crop and batch must be at least 1, "
                "seed at least 0"
            )
        self.source = ReadableImages(source)
        self.crop, self.seed, self.batch, self.cut = crop, seed, batch, cut
        self.order = EpochOrder(seed, len(source), batch)

    def _share(self, step: int, process_index: int, process_count: int) -> range:
        """Return the positions in the global batch that belong to one process."""
        if step < 0 or not 0 <= process_index < process_count:
            raise ValueError(
                f"step is {step}, process {process_index} of {process_count}; step must be at "
                "least 0, and the process from 0 to one less than their number"
            )
        if self.batch % process_count:
            raise ValueError(
                f"a batch of {self.batch} cannot be divided equally among {process_count} "
                f"processes; choose a multiple of {process_count}"
            )
        share = self.batch // process_count
        return range(process_index * share, (process_index + 1) * share)

    def indices_at(self, step: int, process_index: int = 0, process_count: int = 1) -> list[int]:
        """List the indices in `source` of the images of `batch_at`, in its order."""
        places = self._share(step, process_index, process_count)
        return [self.order(step, place) for place in places]

    def names_at(self, step: int, process_index: int = 0, process_count: int = 1) -> list[str]:
        """List the names of the images of `batch_at`, in its order."""
        numbers = self.indices_at(step, process_index, process_count)
        return [self.source.names[number] for number in numbers]

    def batch_at(self, step: int, process_index: int = 0, process_count: int = 1) -> Tensor:
        """Read one process's part of the batch of a step.

        Args:
            step: from 0.
            process_index: index of the part, from 0.
            process_count: number of parts; divides `batch`.

        Returns:
            float32 [batch / process_count, 3, crop, crop] in [0, 1].

        Raises:
            ValueError: an argument is out of range.
            ImageError: hardly an image can be read.
        """
        places = self._share(step, process_index, process_count)
        crops = []
        for place in places:
            # 1 + place: a last number of 0 would repeat the random numbers of the epoch's order.
            rng = np.random.default_rng([self.seed, step, 1 + place])
            crops.append(self.cut(self.source[self.order(step, place)], self.crop, rng))
        images = torch.from_numpy(np.stack(crops))
        return images.permute(0, 3, 1, 2).contiguous().float().div_(255)


def prefetch(
    batch_at: Callable[[int], T], start: int, count: int, ahead: int = 2
) -> Generator[T, None, None]:
    """Read `batch_at(start)` … `batch_at(start + count - 1)` ahead in a background thread.

    Args:
        batch_at: called for each step in order, in the background.
        start: first step.
        count: number of steps.
        ahead: number of batches read ahead, at least 1.

    Yields:
        Results of `batch_at`. Its exceptions are raised here, at their step. The thread ends with
        the iterator, whether exhausted, closed or deleted.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        steps = iter(range(start, start + count))
        pending = deque(pool.submit(batch_at, step) for step in islice(steps, ahead))
        while pending:
            batch = pending.popleft().result()
            pending.extend(pool.submit(batch_at, step) for step in islice(steps, 1))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

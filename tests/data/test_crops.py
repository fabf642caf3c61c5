"""Training batches depend on seed and step alone, and prefetching changes nothing."""

import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from diffjscc.data.crops import TrainingCrops, prefetch, random_crop


class Numbered:
    """Images whose pixels tell which image, which row and which column they are."""

    def __init__(self, count, height=40, width=50):
        self.names = [str(index) for index in range(count)]
        self.fingerprint = ""
        self.shape = height, width

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        rows, columns = np.indices(self.shape)
        return np.stack([np.full(self.shape, index), rows, columns], axis=2).astype(np.uint8)

    def caption(self, index):
        return None

    def sha256(self, index):
        return "0" * 64


def numbers(batch):
    return [round(float(image[0, 0, 0]) * 255) for image in batch]


def test_crops_are_parts_of_the_image_or_of_its_mirror_image():
    image = Numbered(1)[0]
    rng = np.random.default_rng(0)
    seen = Counter()
    for _ in range(2000):
        crop = random_crop(image, 32, rng)
        assert crop.shape == (32, 32, 3)
        top, flipped = int(crop[0, 0, 1]), bool(crop[0, 0, 2] > crop[0, 1, 2])
        left = int(crop[0, :, 2].min())
        part = image[top : top + 32, left : left + 32]
        assert np.array_equal(crop, part[:, ::-1] if flipped else part)
        seen[flipped] += 1
        seen["top", top] += 1
        seen["left", left] += 1
    assert abs(seen[True] - 1000) < 4 * 22.4
    for name, places in (("top", 9), ("left", 19)):
        mean = 2000 / places
        assert sum(seen[name, place] for place in range(places)) == 2000
        for place in range(places):
            assert abs(seen[name, place] - mean) < 5 * mean**0.5


@pytest.mark.parametrize("shape", [(1, 1), (20, 31), (31, 20), (1, 5000), (32, 5000)])
def test_small_images_are_enlarged(shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    crop = random_crop(image, 32, np.random.default_rng(0))
    assert crop.shape == (32, 32, 3)
    assert abs(crop.mean() - image.mean()) < 128


def test_a_small_square_is_enlarged_by_lanczos():
    image = np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    crops = {random_crop(image, 32, np.random.default_rng(s)).tobytes() for s in range(20)}
    whole = [image, image[:, ::-1]]
    expected = {
        np.asarray(
            Image.fromarray(np.ascontiguousarray(p)).resize((32, 32), Image.Resampling.LANCZOS)
        ).tobytes()
        for p in whole
    }
    assert crops == expected


def test_batches_depend_on_seed_and_step_alone():
    one, other = (TrainingCrops(Numbered(23), crop=16, seed=3, batch=8) for _ in range(2))
    run = [one.batch_at(step) for step in range(12)]
    assert run[0].shape == (8, 3, 16, 16)
    assert run[0].dtype == torch.float32
    assert 0 <= run[0].min() <= run[0].max() <= 1
    for step in (11, 0, 7, 2):  # as after a resumption, and in any order
        assert torch.equal(other.batch_at(step), run[step])
    assert len({batch.numpy().tobytes() for batch in run}) == 12
    reseeded = TrainingCrops(Numbered(23), crop=16, seed=4, batch=8)
    assert not torch.equal(reseeded.batch_at(0), run[0])


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_processes_together_see_the_batch_of_one(processes):
    crops = TrainingCrops(Numbered(23), crop=16, seed=3, batch=8)
    parts = [crops.batch_at(5, index, processes) for index in range(processes)]
    assert torch.equal(torch.cat(parts), crops.batch_at(5))
    indices = [i for index in range(processes) for i in crops.indices_at(5, index, processes)]
    assert indices == crops.indices_at(5)


@pytest.mark.parametrize("batch", [3, 5, 17])
def test_every_epoch_shows_every_image_once(batch):
    crops = TrainingCrops(Numbered(7), crop=16, seed=0, batch=batch)
    shown = [number for step in range(28) for number in numbers(crops.batch_at(step))]
    assert shown == [index for step in range(28) for index in crops.indices_at(step)]
    epochs = [tuple(shown[start : start + 7]) for start in range(0, len(shown) - 6, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) > len(epochs) / 2


def test_one_image_gives_different_crops():
    crops = TrainingCrops(Numbered(1), crop=16, seed=0, batch=6)
    images = torch.cat([crops.batch_at(step) for step in range(4)])
    # 24 draws from 25 x 35 places and two sides: an equal pair or two is chance
    assert len({image.numpy().tobytes() for image in images}) >= 22


def test_wrong_numbers():
    crops = TrainingCrops(Numbered(5), crop=16, seed=0, batch=6)
    with pytest.raises(ValueError, match="multiple of 4"):
        crops.batch_at(0, 0, 4)
    for arguments in ((-1,), (0, 2, 2), (0, -1, 2), (0, 0, 0)):
        with pytest.raises(ValueError, match="process from 0"):
            crops.batch_at(*arguments)
    for wrong in ({"crop": 0}, {"batch": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="at least"):
            TrainingCrops(Numbered(5), **({"crop": 16, "seed": 0, "batch": 6} | wrong))


# Prefetching


def prefetchers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_prefetch_gives_every_step_in_order(count):
    assert list(prefetch(lambda step: step * step, 5, count)) == [
        step * step for step in range(5, 5 + count)
    ]
    assert not prefetchers()


def test_prefetch_reads_two_batches_ahead_and_no_more():
    read = []
    batches = prefetch(lambda step: read.append(step) or step, 0, 100)
    for step in range(3):
        assert next(batches) == step
        deadline = time.monotonic() + 5
        while len(read) < step + 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)
        assert read == list(range(step + 3))
    batches.close()
    assert not prefetchers()
    assert len(read) <= 6


def test_prefetch_raises_at_the_step_that_failed():
    def batch_at(step):
        if step == 2:
            raise OSError("the disk is gone")
        return step

    batches = prefetch(batch_at, 0, 9)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert not prefetchers()

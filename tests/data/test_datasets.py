"""Datasets of the user's own as sources of training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from diffjscc.data.crops import TrainingCrops
from diffjscc.data.datasets import DatasetSource, image_of
from diffjscc.data.images import ImageError
from diffjscc.data.sources import pack

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)


@pytest.mark.parametrize(
    "item",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        TENSOR,
        TENSOR.float() / 255,
        TENSOR.double() / 255,
        {"image": Image.fromarray(PIXELS), "label": 3},
        {"__key__": "a", "jpg": PIXELS},
        {"png": TENSOR},
        {"webp": TENSOR},
        (TENSOR, 7),
        [Image.fromarray(PIXELS), "a caption"],
    ],
    ids=lambda item: type(item).__name__,
)
def test_items_of_many_kinds_are_one_image(item: object) -> None:
    found = image_of(item)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (TENSOR.float(), "range from 0 to 255; give values in"),
        (torch.full((3, 8, 8), torch.nan), "hold NaN"),
        (TENSOR[None].repeat(2, 1, 1, 1), "a batch of 2 images; give one"),
        (TENSOR[:2], "shape"),
        (TENSOR.long(), "int64"),
        ({"label": 1, "pixels": PIXELS}, "keys label, pixels; one of image, jpg"),
        ("a.png", "given as str"),
        ((), "empty"),
    ],
)
def test_items_that_are_no_image_are_named(item: object, message: str) -> None:
    with pytest.raises(ImageError, match=rf"mine\[0\]: .*{message}"):
        DatasetSource([item], "mine")


def test_a_dataset_is_a_source(tmp_path) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(12)]
    items = [
        {"image": Image.fromarray(image), "txt": f" Nº {n} "} for n, image in enumerate(images)
    ]
    source = DatasetSource(items)
    assert len(source) == 12
    assert (source.names[0], source.names[11]) == ("00", "11")
    assert [source.caption(n) for n in (0, 11)] == ["Nº 0", "Nº 11"]
    assert DatasetSource([(PIXELS, 1)]).caption(0) is None
    np.testing.assert_array_equal(source[7], images[7])
    assert source.sha256(3) != source.sha256(4)
    assert source.fingerprint == DatasetSource(list(images)).fingerprint
    assert source.fingerprint != DatasetSource(images[:-1]).fingerprint
    assert source.fingerprint != DatasetSource(images[::-1]).fingerprint
    batch = TrainingCrops(source, crop=16, seed=0, batch=4).batch_at(0)
    assert batch.shape == (4, 3, 16, 16)
    packed = pack(source, tmp_path / "images.pack", progress=False)
    np.testing.assert_array_equal(packed[7], images[7])


def test_what_is_no_dataset_is_named() -> None:
    for thing, message in (
        (7, "of int, which is no dataset"),
        ({"a": 1}, "of dict, which is no dataset"),
        ([], "is empty"),
    ):
        with pytest.raises(ImageError, match=message):
            DatasetSource(thing)


def test_a_dataset_that_augments_at_random_is_refused() -> None:
    class Augmented:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.rand(3, 8, 8)

    with pytest.raises(ImageError, match="another image at every call; remove random transforms"):
        DatasetSource(Augmented())

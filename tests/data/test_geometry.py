"""Padding and cropping of any size, and the released geometry against its reference numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from diffjscc.data.geometry import (
    PaddedImages,
    crop,
    pad_to_multiple,
    padded_length,
    released_prepare,
    released_restore,
    released_size,
)
from recordings import recorded_numbers, recorded_tensors

sides = st.integers(1, 100)


@given(length=st.integers(1, 10**6), multiple=st.integers(1, 512))
def test_padded_length_is_the_next_multiple(length, multiple):
    padded = padded_length(length, multiple)
    assert padded % multiple == 0
    assert length <= padded < length + multiple


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, multiple=st.integers(1, 80), zero=st.booleans())
def test_crop_undoes_padding(height, width, multiple, zero):
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) + 0.1
    padded = pad_to_multiple(images, multiple, "zero" if zero else "reflect")
    assert padded.shape == (2, 3, padded_length(height, multiple), padded_length(width, multiple))
    assert torch.equal(crop(padded, (height, width)), images)
    if zero:
        assert padded.sum() == pytest.approx(float(images.sum()), rel=1e-5)
        assert padded[..., height:, :].abs().sum() + padded[..., width:].abs().sum() == 0
    else:
        assert padded.min() >= images.min()


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, multiple=st.integers(1, 80))
def test_reflection_is_that_of_torch_where_torch_has_one(height, width, multiple):
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    padded = pad_to_multiple(images, multiple)
    more_rows, more_columns = padded.shape[-2] - height, padded.shape[-1] - width
    if more_rows < height and more_columns < width:
        expected = F.pad(images, (0, more_columns, 0, more_rows), mode="reflect")
        assert torch.equal(padded, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (17, 16), (511, 513)])
def test_awkward_sizes(size):
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    padded = pad_to_multiple(images, 16)
    assert padded.shape[-2] % 16 == padded.shape[-1] % 16 == 0
    assert torch.equal(crop(padded, size), images)
    rows = {tuple(row) for row in images[0, 0].tolist()}
    assert {tuple(row) for row in padded[0, 0, :, : size[1]].tolist()} == rows


def test_reflection_bounces():
    images = torch.arange(3.0).expand(1, 3, 1, 3)
    padded = pad_to_multiple(images, 8)
    assert padded[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert torch.equal(padded[0, 0], padded[0, 0, :1].expand(8, 8))


def test_padding_can_be_differentiated():
    images = torch.rand(1, 3, 5, 5, requires_grad=True)
    pad_to_multiple(images, 8).sum().backward()
    assert images.grad.sum() == pytest.approx(3 * 64)


# The released geometry


def test_released_sizes():
    reference = recorded_numbers("preprocess")
    for width, height, new_width, new_height, padded_width, padded_height in reference["rows"]:
        assert released_size((height, width)) == (new_height, new_width)
        padded = padded_length(new_height, 64), padded_length(new_width, 64)
        assert padded == (padded_height, padded_width)
    assert len(reference["rows"]) > 20


def test_no_short_side_gives_513():
    reference = recorded_numbers("preprocess")
    assert reference["short_edges_whose_resize_gives_513"] == [
        side for side in range(1, 513) if released_size((side, side)) != (512, 512)
    ]


def test_released_pixels():
    pixels = recorded_tensors("preprocess_pixels")
    images = {name: values.permute(2, 0, 1).float() / 255 for name, values in pixels.items()}
    image = images["image_hwc_u8"]
    assert torch.equal(released_prepare(image, 24, 8), images["pad_8"])
    assert torch.equal(released_prepare(image, 24, 1), images["auto_resize_24"])
    assert torch.equal(released_restore(images["pad_8"], (17, 21), 24), images["lanczos_back"])


@pytest.mark.parametrize("size", [(7, 7), (100, 300), (512, 577), (600, 520)])
def test_released_geometry_gives_back_the_size(size):
    rows, columns = torch.linspace(0, 0.6, size[0]), torch.linspace(0, 0.4, size[1])
    image = (rows[:, None] + columns).expand(3, *size)
    prepared = released_prepare(image)
    assert min(prepared.shape[1:]) >= 512
    assert prepared.shape[1] % 64 == prepared.shape[2] % 64 == 0
    restored = released_restore(prepared, size)
    assert restored.shape == image.shape
    assert (restored - image).abs().mean() < 2 / 255


def test_eight_bit_levels_survive_truncation():
    image = (torch.arange(256).float() / 255).expand(3, 512, 256).repeat(1, 1, 2)
    assert torch.equal(released_prepare(image), image)
    assert torch.equal(released_restore(image + 0.9 / 255, (512, 512)), image)


def test_a_strip_is_not_enlarged_beyond_memory():
    with pytest.raises(ValueError, match="a 5000x1 image would be enlarged to 2560000x512"):
        released_prepare(torch.rand(3, 1, 5000))


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("size", [(30, 41), (32, 48), (1, 1), (32, 41), (17, 48), (5, 3)])
def test_padded_rows_are_those_of_the_whole(size, padding):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    padded = PaddedImages(images, 16, padding)
    whole = pad_to_multiple(images, 16, padding)
    assert padded.size == whole.shape[-2:]
    assert torch.equal(padded.whole(), whole)
    for top in range(0, len(whole[0, 0]), 8):
        for bottom in range(top + 1, len(whole[0, 0]) + 1):
            assert torch.equal(padded.rows(slice(top, bottom)), whole[..., top:bottom, :])

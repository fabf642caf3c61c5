"""Augmentation: the same for the same generator; calm where it says so; grey stays grey."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from diffjscc.data.crops import random_crop
from diffjscc.layers.texture import texture_map
from diffjscc.training.augmentation import augmented_crop, blur_kernel, gradient
from diffjscc.training.augmentation_config import Augmentation


def noise(colours: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (90, 120, colours)).astype(np.uint8)
    return np.broadcast_to(values, (90, 120, 3)).copy()


def crop(augmentation: Augmentation, seed: int = 1, colours: int = 3) -> NDArray[np.uint8]:
    return augmented_crop(noise(colours), 64, np.random.default_rng(seed), augmentation)


def mean_texture(pixels: NDArray[np.uint8]) -> float:
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    return float(texture_map(images).mean())


def test_equal_seeds_give_equal_crops() -> None:
    everything = Augmentation(scale=2, defocus=0.5, gradient=0.2, low_light=0.5, grey=0.3)
    for seed in range(8):
        one, same = crop(everything, seed), crop(everything, seed)
        assert one.shape == (64, 64, 3)
        assert one.dtype == np.uint8
        assert np.array_equal(one, same)


def test_without_any_the_crop_is_a_plain_one() -> None:
    rng = np.random.default_rng(1)
    assert np.array_equal(crop(Augmentation()), random_crop(noise(), 64, rng))


def test_defocus_takes_texture_away() -> None:
    plain = mean_texture(crop(Augmentation()))
    blurred = [mean_texture(crop(Augmentation(defocus=1), seed)) for seed in range(8)]
    assert max(blurred) < plain - 0.2
    assert min(blurred) < plain - 2


def test_gradients_are_all_but_flat() -> None:
    pixels = gradient(64, np.random.default_rng(3)).astype(float)
    assert np.abs(np.diff(pixels, axis=0)).max() <= 4


def test_low_light_is_darker() -> None:
    assert crop(Augmentation(low_light=1)).mean() < 0.8 * crop(Augmentation()).mean()


def test_grey_stays_grey() -> None:
    every = Augmentation(scale=2, defocus=1, low_light=1)
    pixels = crop(every, colours=1).astype(int)
    assert np.ptp(pixels, axis=2).max() <= 1
    assert np.ptp(crop(Augmentation(grey=1)).astype(int), axis=2).max() == 0


@pytest.mark.parametrize("gaussian", [False, True])
def test_blurs_keep_brightness(gaussian: bool) -> None:
    kernel = blur_kernel(3.3, gaussian)
    assert kernel.sum() == pytest.approx(1)
    assert torch.equal(kernel, kernel.T)


def test_numbers_out_of_range_are_errors() -> None:
    for wrong in ({"grey": 1.5}, {"scale": 0.5}, {"radius": (4, 2)}, {"gray": 0.1}):
        with pytest.raises(ValidationError):
            Augmentation.model_validate(wrong)

"""Augmentation of crops, so that calm is as common as texture.

Test sets of this field are sharp everywhere; images that people send have blurred backgrounds,
walls and skies. Crops are defocused, replaced by flat gradients, darkened and rescaled at random,
as functions of the generator alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from diffjscc.data.crops import random_crop
from diffjscc.training.augmentation_config import Augmentation


def augmented_crop(
    image: NDArray[np.uint8], size: int, rng: np.random.Generator, augmentation: Augmentation
) -> NDArray[np.uint8]:
    """Crop a square as `random_crop` does, and augment it.

    Args:
        image: uint8 [H, W, 3].
        size: side of the crop, in pixels.
        rng: source of all random numbers.
        augmentation: probabilities and sizes of the changes.

    Returns:
        uint8 [size, size, 3]; grey where the image was, unless it is a gradient; without any
        augmentation the very crop that `random_crop` gives.
    """
    if augmentation == Augmentation():
        return random_crop(image, size, rng)
    side = round(size * augmentation.scale ** rng.uniform(-1, 1))
    side = min(side, max(size, min(image.shape[:2])))
    crop = random_crop(image, side, rng)
    if side != size:
        resized = Image.fromarray(np.ascontiguousarray(crop)).resize(
            (size, size), Image.Resampling.LANCZOS
        )
        crop = np.asarray(resized)
    chances = rng.random(4)
    if chances[0] < augmentation.gradient:
        return gradient(size, rng)
    pixels = crop.astype(np.float32)
    if chances[1] < augmentation.defocus:
        pixels = defocused(pixels, augmentation.radius, rng)
    if chances[2] < augmentation.low_light:
        pixels = low_light(pixels, rng)
    if chances[3] < augmentation.grey:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    return to_levels(pixels)


def to_levels(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round pixels in levels to uint8."""
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def gradient(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Generate a bilinear gradient between four similar colours, grey in half of the cases.

    Args:
        size: side in pixels.
        rng: source of colours and dither.

    Returns:
        uint8 [size, size, 3].
    """
    base = rng.uniform(10, 245, 3)
    corners = base + rng.normal(0, rng.uniform(2, 40), (2, 2, 3))
    if rng.random() < 0.5:
        corners = np.repeat(corners.mean(axis=2, keepdims=True), 3, axis=2)
    places = np.linspace(0, 1, size)
    across = np.stack((1 - places, places))
    pixels = np.einsum("ih,jw,ijc->hwc", across, across, corners)
    # One dither for all channels keeps grey ones grey.
    return to_levels((pixels + rng.uniform(-0.5, 0.5, (size, size, 1))).astype(np.float32))


def blur_kernel(radius: float, gaussian: bool) -> Tensor:
    """Weights [k, k] of an antialiased disc, or of a Gaussian of half the radius; sum 1."""
    reach = math.ceil(1.5 * radius if gaussian else radius)
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    distance = (axis[:, None].square() + axis[None].square()).sqrt()
    if gaussian:
        kernel = torch.exp(-2 * (distance / radius).square())
    else:
        kernel = (radius + 0.5 - distance).clamp(0, 1)
    return kernel / kernel.sum()


def defocused(
    pixels: NDArray[np.float32], radii: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Blur pixels [H, W, 3] as a whole, or beside a sharp ellipse or half-plane.

    Args:
        pixels: float32, of any range.
        radii: range of the radius in pixels, (low, high).
        rng: source of kind, radius and place.
    """
    radius = math.exp(rng.uniform(*np.log(radii)))
    kernel = blur_kernel(radius, bool(rng.random() < 0.4))
    reach = len(kernel) // 2
    image = torch.from_numpy(pixels).permute(2, 0, 1)[:, None]
    padded = F.pad(image, (reach,) * 4, mode="reflect")
    blurred = F.conv2d(padded, kernel[None, None])[:, 0].permute(1, 2, 0).numpy()
    whole, elliptic = rng.random(2) < (0.35, 0.6)
    centre_y, centre_x, angle = rng.random(3)
    width, soft = rng.uniform(0.15, 0.45), rng.uniform(0.01, 0.15)
    if whole:
        return blurred
    height, length = pixels.shape[:2]
    y = np.linspace(0, 1, height)[:, None] - centre_y
    x = np.linspace(0, 1, length)[None] - centre_x
    turn = 2 * math.pi * angle
    along = x * math.cos(turn) + y * math.sin(turn)
    beside = y * math.cos(turn) - x * math.sin(turn)
    outside = np.hypot(along, 0.6 * beside) - width if elliptic else along
    share = (outside / soft).clip(0, 1)[..., None].astype(np.float32)
    mixed: NDArray[np.float32] = pixels + share * (blurred - pixels)
    return mixed


def low_light(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Darken pixels [H, W, 3] of 0 to 255, with shot and read noise of up to about 6 levels.

    The noise is one of brightness, so grey stays grey, and is slightly blurred, as by cameras.
    """
    dark = 255 * rng.uniform(0.15, 0.6) * (pixels / 255) ** rng.uniform(1.0, 1.6)
    noise = torch.from_numpy(rng.standard_normal(pixels.shape[:2]).astype(np.float32))
    kernel = blur_kernel(rng.uniform(0.6, 1.6), gaussian=True)
    reach = len(kernel) // 2
    padded = F.pad(noise[None, None], (reach,) * 4, mode="reflect")
    smooth = F.conv2d(padded, kernel[None, None])[0, 0]
    grain = (smooth / smooth.std()).numpy()[..., None]
    shot, read = rng.uniform(0, 0.3), rng.uniform(0, 3)
    lit: NDArray[np.float32] = (dark + grain * np.sqrt(shot * dark + read**2)).astype(np.float32)
    return lit

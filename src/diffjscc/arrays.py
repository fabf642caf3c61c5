"""Images of any kind that users hold, as one batch of tensors, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

OneImage: TypeAlias = Union[Tensor, NDArray[np.generic], "Image.Image"]
ImageInput: TypeAlias = OneImage | Sequence[OneImage]

# Resampling and half precision leave values this far outside [0, 1] without any mistake.
_ROUNDING = 1e-3


def as_images(images: ImageInput, device: torch.device | str | None = None) -> Tensor:
    """Convert images to one batch.

    Args:
        images: a tensor [3, H, W] or [B, 3, H, W], floating point in [0, 1] or uint8; a NumPy array
            [H, W], [H, W, 3] or [B, H, W, 3], likewise; a PIL image; or a list of these, all of
            one size. PIL images are turned as their EXIF data says, and transparency is composited
            on white.
        device: where the batch goes; None leaves tensors where they are.

    Returns:
        float32 [B, 3, H, W] in [0, 1].

    Raises:
        TypeError: neither a tensor, an array nor a PIL image.
        ValueError: another shape or type, different sizes, values outside [0, 1], or not finite.
    """
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return _stack([as_images(image, device) for image in images])
    batch = _as_tensor(images)
    if batch.dtype == torch.float64:  # which not every device has
        batch = batch.float()
    if device is not None:
        batch = batch.to(device)
    if batch.ndim == 3:
        batch = batch[None]
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise ValueError(
            f"images have shape {tuple(batch.shape)}; give a tensor of shape [B, 3, H, W], or an "
            "array [B, H, W, 3]"
        )
    if 0 in batch.shape:
        raise ValueError(f"images have shape {tuple(batch.shape)}; no side may be 0")
    if batch.dtype == torch.uint8:
        return levels_to_floats(batch)
    if not batch.is_floating_point():
        raise ValueError(f"images are {batch.dtype}; give floating point in [0, 1], or uint8")
    check_range(batch, "images")
    return batch.float()


def check_range(images: Tensor, name: str) -> None:
    """Raise ValueError, which calls them `name`, unless all values are finite and in [0, 1]."""
    # Not aminmax, which copies the images: those of 48 megapixels take 0.6 GB.
    low, high = float(images.detach().amin()), float(images.detach().amax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} hold NaN or infinite values; give finite values in [0, 1]")
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        way = "divide 8-bit values by 255, or give them as uint8" if high > 2 else "clamp them"
        raise ValueError(f"{name} range from {low:g} to {high:g}; give values in [0, 1] ({way})")


def levels_to_floats(levels: Tensor) -> Tensor:
    """Convert uint8 levels k of any shape to float32 k/255."""
    return levels.float().div_(255)  # in place: a photograph of 48 megapixels takes 0.6 GB


def to_pil(images: Tensor) -> list[Image.Image]:
    """Convert a batch to 8-bit RGB PIL images.

    Args:
        images: float [B, 3, H, W], on any device; values are clamped to [0, 1] and rounded.

    Returns:
        B images.
    """
    from PIL import Image  # noqa: PLC0415 - many users never need it

    levels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(level.numpy()) for level in levels.permute(0, 2, 3, 1).cpu()]


def _stack(batches: Sequence[Tensor]) -> Tensor:
    """Join batches of images of one size."""
    sizes = sorted({f"{batch.shape[-1]}x{batch.shape[-2]}" for batch in batches})
    if not sizes:
        raise ValueError("the list of images is empty; give at least one")
    if len(sizes) > 1:
        raise ValueError(
            f"images of one batch have one size, but these are {', '.join(sizes)}; transmit images "
            "of different sizes one at a time"
        )
    return torch.cat(list(batches))


def _as_tensor(image: OneImage) -> Tensor:
    """Convert one image, or one batch, to [..., 3, H, W], values as they are."""
    if isinstance(image, Tensor):
        return image
    if not isinstance(image, np.ndarray):
        image = _from_pil(image)
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise ValueError(
            f"the array has shape {image.shape}; give [H, W], [H, W, 3] or [B, H, W, 3] (channels "
            "last, as PIL and scikit-image have them)"
        )
    return torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3)


def _from_pil(image: object) -> NDArray[np.uint8]:
    """Convert a PIL image to uint8 [H, W, 3]."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    if not isinstance(image, Image.Image):
        raise TypeError(
            f"images are given as {type(image).__name__}; give a tensor, a NumPy array, a PIL "
            "image, or a list of these"
        )
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        raise ValueError(
            f"the PIL image has mode {image.mode}; convert it to 8 bits, or give an array of "
            "floating point in [0, 1]"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"), dtype=np.uint8)  # writable, as torch wants it

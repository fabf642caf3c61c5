"""Reading and writing of image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diffjscc.arrays import to_pil
from diffjscc.data.decoding import MAX_PIXELS, ImageError, Pixels, decode, is_image_name
from diffjscc.data.files import atomic_write

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "Pixels",
    "decode",
    "grey",
    "is_image_name",
    "load_image",
    "quantise",
    "read_pixels",
    "save_image",
    "to_bytes",
    "to_pillow",
]


def read_pixels(path: Path, max_side: int | None = None) -> Pixels:
    """Decode the file at `path`, see `decode`; all problems are raised as ImageError."""
    try:
        if path.is_dir():
            raise ImageError(path, "is a folder, not an image", "give a file in it")
        if path.exists() and not path.is_file():
            raise ImageError(path, "is not a regular file", "copy it to one")
        with path.open("rb") as file:
            if not file.read(1):
                raise ImageError(path, "is empty", "download or export it again")
            file.seek(0)
            return decode(file, path, max_side)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(path, "does not exist", "check the path") from None
    except PermissionError:
        raise ImageError(
            path, "cannot be read (permission denied)", "change its permissions or its folder's"
        ) from (None)
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        raise ImageError(path, f"cannot be read ({error})", "check the path") from error


def to_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """Convert the output of `decode` to uint8 [H, W, 3], with rounding."""
    if pixels.dtype == np.float32:
        pixels = np.rint(pixels * np.float32(255))
    return pixels.astype(np.uint8, copy=False)


def load_image(path: str | Path, max_side: int | None = None) -> Tensor:
    """Read an image file.

    Args:
        path: PNG, JPEG, WebP, AVIF, TIFF, BMP, GIF, PPM or JPEG 2000, of any size up to
            `MAX_PIXELS`. See `decode` for transparency, rotation, bit depth and colour profiles.
        max_side: larger images are reduced to this longest side, in pixels.

    Returns:
        float32 [3, H, W] in [0, 1], RGB.

    Raises:
        ImageError: the image cannot be read; with the path, the problem and the remedy.
    """
    pixels = read_pixels(Path(path), max_side)
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    # In place: a photograph of 48 megapixels takes 0.6 GB.
    return image.float().div_(255) if image.dtype == torch.uint8 else image


def quantise(image: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the 8-bit levels k/255 of image files.

    Metrics are computed on quantised images, so that they agree with those of saved images.

    Args:
        image: floating point, any shape.

    Returns:
        float32, same shape.
    """
    return image.float().clamp(0, 1).mul_(255).round_().div_(255)


def grey(image: Tensor) -> Tensor:
    """Take the colours from an image, rounded as by `quantise`: ITU-R BT.601 luma, three times.

    Args:
        image: floating point [3, H, W] in [0, 1].

    Returns:
        float32, same shape.
    """
    red, green, blue = image.float()
    return quantise(0.299 * red + 0.587 * green + 0.114 * blue).expand(3, -1, -1)


def to_pillow(image: Tensor) -> Image.Image:
    """Convert an image to an 8-bit RGB Pillow image; values are rounded as by `quantise`.

    Args:
        image: floating point [3, H, W] in [0, 1], on any device; values outside are clamped.

    Raises:
        ValueError: `image` has another shape or type, or contains NaN or infinite values.
    """
    if image.ndim != 3 or len(image) != 3 or 0 in image.shape or not image.is_floating_point():
        raise ValueError(
            f"the image is {image.dtype} {tuple(image.shape)}; give floats of shape [3, H, W]"
        )
    if not bool(torch.isfinite(image).all()):
        raise ValueError("the image contains NaN or infinite values; give finite values in [0, 1]")
    return to_pil(image[None])[0]


def save_image(image: Tensor, path: str | Path) -> None:
    """Write an image as 8-bit PNG, atomically; values are rounded as by `quantise`.

    An image without colours is written as a grey one, of one channel.

    Args:
        image: floating point [3, H, W] in [0, 1]; values outside are clamped.
        path: path that ends in .png; its folder must exist.

    Raises:
        ImageError: `path` does not end in .png.
        ValueError: see `to_pillow`.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ImageError(path, "is not a .png path", "images are written losslessly, as .png")
    pillow = to_pillow(image)
    red, green, blue = pillow.split()
    if red == green == blue:
        pillow = green
    with atomic_write(path) as temporary:
        pillow.save(temporary, format="PNG")

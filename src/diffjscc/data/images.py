"""Reading and writing of image files."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diffjscc.arrays import levels_to_floats, to_pil
from diffjscc.data.decoding import MAX_PIXELS, ImageError, Pixels, decode, is_image_name
from diffjscc.data.files import atomic_write
from diffjscc.paths import printable
from diffjscc.progress import working

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "Pixels",
    "decode",
    "grey",
    "grey_levels",
    "is_image_name",
    "load_image",
    "load_stored",
    "quantise",
    "read_pixels",
    "save_image",
    "to_bytes",
    "to_levels",
    "to_pillow",
    "to_png",
]


BAND = 1_000_000  # pixels of an image that are rounded at once


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
            with working(f"reading {printable(path.name)}"):
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
    image = load_stored(path, max_side)
    return levels_to_floats(image) if image.dtype == torch.uint8 else image


def load_stored(path: str | Path, max_side: int | None = None) -> Tensor:
    """Read an image file as `load_image` does, but leave 8-bit levels as they are.

    Returns:
        uint8 [3, H, W], or float32 [3, H, W] in [0, 1] of a file with more bits; RGB.
    """
    pixels = read_pixels(Path(path), max_side)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def quantise(image: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the 8-bit levels k/255 of image files.

    Metrics are computed on quantised images, so that they agree with those of saved images.

    Args:
        image: floating point, any shape.

    Returns:
        float32, same shape.
    """
    return image.float().clamp(0, 1).mul_(255).round_().div_(255)


def to_levels(image: Tensor) -> Tensor:
    """Round to 8-bit levels as `quantise` does, in bands of rows that take little memory.

    Args:
        image: floating point [..., H, W]; values outside [0, 1] are clamped.

    Returns:
        uint8, same shape: 255 times the values of `quantise`.
    """
    levels = torch.empty_like(image, dtype=torch.uint8)
    for rows in _bands(image):
        levels[..., rows, :] = image[..., rows, :].float().clamp(0, 1).mul_(255).round_()
    return levels


def grey_levels(levels: Tensor) -> Tensor:
    """Take the colours from 8-bit levels uint8 [3, H, W], as `grey` does."""
    taken = torch.empty_like(levels)
    for rows in _bands(levels):
        taken[..., rows, :] = to_levels(grey(levels_to_floats(levels[..., rows, :])))
    return taken


def _bands(image: Tensor) -> Iterator[slice]:
    """Bands of rows of at most `BAND` pixels that cover an image [..., H, W]."""
    height, width = image.shape[-2:]
    band = max(1, BAND // max(1, width))
    return (slice(top, min(top + band, height)) for top in range(0, height, band))


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
        image: floating point [3, H, W] in [0, 1], on any device; values outside are clamped. Or
            8-bit levels, uint8 [3, H, W].

    Raises:
        ValueError: `image` has another shape or type, or contains NaN or infinite values.
    """
    if image.ndim == 3 and len(image) == 3 and image.dtype == torch.uint8 and 0 not in image.shape:
        return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
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
        image: floating point [3, H, W] in [0, 1], values outside are clamped; or 8-bit levels,
            uint8 [3, H, W].
        path: path that ends in .png; its folder must exist.

    Raises:
        ImageError: `path` does not end in .png.
        ValueError: see `to_pillow`.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ImageError(path, "is not a .png path", "images are written losslessly, as .png")
    with atomic_write(path) as temporary, working(f"writing {printable(path.name)}"):
        _write(image, temporary)


def to_png(image: Tensor) -> bytes:
    """Encode an image as the file that `save_image` writes."""
    file = io.BytesIO()
    _write(image, file)
    return file.getvalue()


def _write(image: Tensor, file: Path | io.BytesIO) -> None:
    """Write a PNG: one channel where all three are equal."""
    pillow = to_pillow(image)
    red, green, blue = pillow.split()
    if red == green == blue:
        pillow = green
    # Runs alone suit photographs: a fifth of the time of the default, and no larger files.
    pillow.save(file, format="PNG", compress_type=zlib.Z_RLE)

"""Reading and writing of image files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from diffjscc.arrays import to_pil
from diffjscc.data.files import atomic_write
from diffjscc.paths import printable

Pixels = NDArray[np.uint8] | NDArray[np.float32]

# Pillow's own limit by default; 8K has 33 million.
MAX_PIXELS = 178_956_970

# EPS, PDF and the like are excluded, since Pillow would run another program to read them.
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image, or a source of images, is not usable.

    Attributes:
        path: path given by the user.
        problem: the problem.
        remedy: the way out.
    """

    def __init__(self, path: str | Path, problem: str, remedy: str) -> None:
        super().__init__(path, problem, remedy)
        self.path, self.problem, self.remedy = Path(path), problem, remedy

    def __str__(self) -> str:
        return f"{printable(str(self.path))}: {self.problem}; {self.remedy}"


@functools.cache
def _readable_formats() -> dict[str, str]:
    """Map suffixes (lower case) to the formats that this Pillow can read."""
    extensions = Image.registered_extensions()
    return {suffix: name for suffix, name in extensions.items() if name in _FORMATS}


def is_image_name(name: str) -> bool:
    """Return whether a file name has the suffix of an image and is not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in _readable_formats()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data does not affect the pixels
        return 1


def _scaled_grey(image: Image.Image, path: str | Path) -> NDArray[np.float32]:
    """Scale 16-bit, 32-bit and float grey [H, W] to [0, 1]; integers count as 16-bit."""
    values = np.asarray(image).astype(np.float32)
    white = 1.0 if image.mode == "F" else 65535.0
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= white):  # false for NaN too
        raise ImageError(
            path,
            f"its values range from {low:g} to {high:g}, where 0 is black and {white:g} is white",
            "scale them to that range, or export it with 8 or 16 bits",
        )
    return values / np.float32(white)


def _to_rgb(image: Image.Image, path: str | Path) -> Pixels:
    image.load()  # first: Pillow rotates TIFF files while loading
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = _scaled_grey(image, path)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def decode(file: IO[bytes], path: str | Path) -> Pixels:
    """Decode an open image file as RGB.

    EXIF rotation is applied; transparency is composited on white; the first frame of an animation
    is taken; colour profiles are not applied.

    Args:
        file: positioned at its beginning.
        path: path named by errors.

    Returns:
        uint8 [H, W, 3], or float32 [H, W, 3] in [0, 1] for grey of more than 8 bits. (Pillow reads
        16-bit colours as 8-bit ones.)

    Raises:
        ImageError: the file cannot be decoded, or has more than `MAX_PIXELS` pixels.
    """
    too_big = f"has more than {MAX_PIXELS / 1e6:.0f} million pixels"
    shrink = "resize it or cut it into parts"
    try:
        formats = sorted(set(_readable_formats().values()))
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(path, too_big, shrink)
            return _to_rgb(image, path)
    except ImageError:
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(formats)
        raise ImageError(path, "is not a readable image", f"convert it to one of {kinds}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(path, too_big, shrink) from None
    except MemoryError:
        raise ImageError(path, "does not fit in memory", shrink) from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise ImageError(
            path,
            f"cannot be decoded ({error})",
            "it is damaged, truncated or of an unusual kind: download or export it again",
        ) from error


def read_pixels(path: Path) -> Pixels:
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
            return decode(file, path)
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


def load_image(path: str | Path) -> Tensor:
    """Read an image file.

    Args:
        path: PNG, JPEG, WebP, AVIF, TIFF, BMP, GIF, PPM or JPEG 2000, of any size up to
            `MAX_PIXELS`. See `decode` for transparency, rotation and bit depth.

    Returns:
        float32 [3, H, W] in [0, 1], RGB.

    Raises:
        ImageError: the image cannot be read; with the path, the problem and the remedy.
    """
    pixels = read_pixels(Path(path))
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float()
    return image / 255 if pixels.dtype == np.uint8 else image


def quantise(image: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the 8-bit levels k/255 of image files.

    Metrics are computed on quantised images, so that they agree with those of saved images.

    Args:
        image: floating point, any shape.

    Returns:
        float32, same shape.
    """
    return image.float().clamp(0, 1).mul(255).round() / 255


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
    """Write an image as 8-bit RGB PNG, atomically; values are rounded as by `quantise`.

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
    with atomic_write(path) as temporary:
        pillow.save(temporary, format="PNG")

"""Decoding of image files of all kinds to RGB."""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from diffjscc.data.colours import in_srgb
from diffjscc.paths import printable

Pixels = NDArray[np.uint8] | NDArray[np.float32]

# Pillow's own limit by default; 8K has 33 million.
MAX_PIXELS = 178_956_970

# EPS, PDF and the like are excluded, since Pillow would run another program to read them.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
# Further formats need a package: the extra of this one that installs it.
_EXTRAS = {"HEIF": "heic", "JXL": "jxl"}
EXTRA_SUFFIXES = {".heic": "heic", ".heif": "heic", ".hif": "heic", ".jxl": "jxl"}

_ANIMATIONS = ("GIF", "WEBP", "PNG", "AVIF")
_TOO_BIG = f"has more than {MAX_PIXELS / 1e6:.0f} million pixels"
_SHRINK = "resize it or cut it into parts"

_PNG = b"\x89PNG\r\n\x1a\n"
_LONGEST_PROFILE = 16 << 20  # bytes

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
    """Map suffixes (lower case) to the formats that can be read here."""
    with contextlib.suppress(ImportError, OSError):
        import pillow_heif  # noqa: PLC0415 - an extra

        pillow_heif.register_heif_opener()
    with contextlib.suppress(ImportError, OSError):
        import pillow_jxl  # noqa: F401, PLC0415 - an extra
    known = {*_FORMATS, *_EXTRAS}
    extensions = Image.registered_extensions()
    return {suffix: name for suffix, name in extensions.items() if name in known}


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


def reduced(image: Image.Image, max_side: int | None) -> Image.Image:
    """Reduce an image to a longest side (Lanczos), if it is larger."""
    if max_side is None or max(image.size) <= max_side:
        return image
    size = [max(1, round(side * max_side / max(image.size))) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _to_rgb(
    image: Image.Image, path: str | Path, profile: bytes | None, max_side: int | None
) -> Pixels:
    with contextlib.suppress(Exception):  # counting frames reads all of a damaged animation
        if getattr(image, "is_animated", False) and image.format != "MPO":
            warnings.warn("of files with several images the first one is taken", stacklevel=5)
    if max_side is not None:
        image.draft(None, (max_side, max_side))  # a JPEG decoder reduces by itself, in little time
    image.load()  # first: Pillow rotates TIFF files while loading
    turn = _TURNS.get(_orientation(image))
    profile = image.info.get("icc_profile") or profile
    if turn is not None:
        image = image.transpose(turn)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = np.asarray(reduced(Image.fromarray(_scaled_grey(image, path)), max_side))
        # The filter overshoots at edges.
        return np.repeat(grey.clip(0, 1)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = in_srgb(image.convert("RGBA"), profile)
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    else:
        image = in_srgb(image, profile)
    return np.array(reduced(image.convert("RGB"), max_side), dtype=np.uint8)


def decode(file: IO[bytes], path: str | Path, max_side: int | None = None) -> Pixels:
    """Decode an open image file as RGB.

    EXIF rotation is applied; transparency is composited on white; of several images (an animation,
    pages) the first is taken; colours are converted to sRGB where a profile says that they are
    others.

    Args:
        file: positioned at its beginning.
        path: path named by errors.
        max_side: larger images are reduced to this longest side, in pixels.

    Returns:
        uint8 [H, W, 3], or float32 [H, W, 3] in [0, 1] for grey of more than 8 bits. (Pillow reads
        16-bit colours as 8-bit ones.)

    Raises:
        ImageError: the file cannot be decoded, or has more than `MAX_PIXELS` pixels.
    """
    try:
        return _decode(file, path, None, max_side)
    except ImageError:
        # Pillow refuses a PNG file with much text, or a long profile, for fear of bombs.
        file.seek(0)
        stripped, profile = _without_text(file)
        if stripped is None:
            raise
        return _decode(stripped, path, profile, max_side)


def _decode(
    file: IO[bytes], path: str | Path, profile: bytes | None, max_side: int | None
) -> Pixels:
    """See `decode`; `profile` stands for one that is no longer in the file."""
    # MPO, of two-eyed cameras and phones, is opened as JPEG.
    formats = sorted(set(_readable_formats().values()) - {"MPO"})
    with _in_words(path, formats), Image.open(file, formats=formats) as image:
        check_pixels(path, image.width, image.height)
        return _to_rgb(image, path, profile, max_side)


def check_pixels(path: str | Path, width: int, height: int) -> None:
    """Raise ImageError for an image of more than `MAX_PIXELS` pixels."""
    if width * height > MAX_PIXELS:
        raise ImageError(path, _TOO_BIG, _SHRINK)


@contextlib.contextmanager
def _in_words(path: str | Path, formats: Sequence[str]) -> Iterator[None]:
    """Turn whatever Pillow raises for an image of one of some formats into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        suffix = Path(path).suffix.lower()
        way = f"convert it to one of {', '.join(formats)}"
        if suffix in EXTRA_SUFFIXES and suffix not in _readable_formats():
            way = f"pip install 'diffjscc[{EXTRA_SUFFIXES[suffix]}]', or convert it to PNG or JPEG"
        raise ImageError(path, "is not a readable image", way) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(path, _TOO_BIG, _SHRINK) from None
    except MemoryError:
        way = f"{_SHRINK}, or give --max-side"
        raise ImageError(path, "does not fit in memory", way) from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise ImageError(
            path,
            f"cannot be decoded ({error})",
            "it is damaged, truncated or of an unusual kind: download or export it again",
        ) from error


def is_image(file: IO[bytes]) -> bool:
    """Return whether an open file is of a kind of image that can be read here."""
    try:
        with Image.open(file, formats=sorted(set(_readable_formats().values()) - {"MPO"})):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # UnidentifiedImageError, and what damaged files raise
        return False


def is_animation(file: IO[bytes]) -> bool:
    """Return whether an open image file has several frames: GIF, WebP, PNG or AVIF."""
    try:
        with Image.open(file, formats=_ANIMATIONS) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # decoding it says what is wrong
        return False


def decode_frames(
    file: IO[bytes], path: str | Path, max_side: int | None = None
) -> Iterator[tuple[Pixels, float]]:
    """Decode the frames of an animation one after the other, each as `decode` does an image.

    Yields:
        Pixels, and the seconds for which the frame is shown; 0 where the file does not say.

    Raises:
        ImageError: see `decode`.
    """
    with _in_words(path, _ANIMATIONS), Image.open(file, formats=_ANIMATIONS) as image:
        check_pixels(path, image.width, image.height)
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            shown = float(image.info.get("duration") or 0) / 1000
            yield _to_rgb(image.copy(), path, None, max_side), shown


def _without_text(file: IO[bytes]) -> tuple[io.BytesIO | None, bytes | None]:
    """Copy a PNG file without its texts and profile, and give the profile apart.

    Returns:
        No copy if the file is no PNG, or has neither; no profile where there is none, or one that
        is damaged or longer than 16 MiB.
    """
    if file.read(len(_PNG)) != _PNG:
        return None, None
    copy, profile, left_out = io.BytesIO(), None, False
    copy.write(_PNG)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            left_out = True
            body = file.read(length) if length <= _LONGEST_PROFILE and kind == b"iCCP" else b""
            file.seek(length - len(body) + 4, io.SEEK_CUR)
            with contextlib.suppress(zlib.error):
                inflater = zlib.decompressobj()
                compressed = body.partition(b"\0")[2][1:]
                text = inflater.decompress(compressed, _LONGEST_PROFILE)
                profile = text if text and not inflater.unconsumed_tail else profile
            continue
        copy.write(head)
        copy.write(file.read(length + 4))
    copy.seek(0)
    return (copy if left_out else None), profile

"""Images that visitors bring: bounded, and made small enough to answer quickly."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from PIL import Image

from diffjscc.arrays import as_images
from diffjscc.data.images import load_image, quantise, to_pillow
from diffjscc.evaluation.images import SourceImage

LARGEST_FILE = 20_000_000  # bytes; a photograph of 48 million pixels as JPEG
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 768  # of what is sent: two cores refine it in seconds
SMALLEST_SIDE = 16

_EXAMPLES = Path(str(files("diffjscc.web").joinpath("examples")))


def example_names() -> list[str]:
    """Names of the examples."""
    return sorted(path.stem for path in _EXAMPLES.glob("*.webp"))


def example_path(name: str) -> Path:
    """Find an example's file.

    Raises:
        ValueError: there is no such example.
    """
    if name not in example_names():
        raise ValueError(f"example {name!r} is not one of {', '.join(example_names())}")
    return _EXAMPLES / f"{name}.webp"


def read_upload(path: Path) -> tuple[SourceImage, str]:
    """Read a file that somebody sent.

    Returns:
        The image, at most `LONGEST_SIDE` pixels long, and what was done to it in words.

    Raises:
        ValueError: it is too large, too small, or no image that can be read.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(
            f"the file has {size / 1e6:.1f} MB; at most {LARGEST_FILE / 1e6:.0f} MB are taken here"
        )
    _check_pixels(path)
    pixels = load_image(path)
    height, width = pixels.shape[-2:]
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"the image is {width}x{height}; at least {SMALLEST_SIDE} pixels a side are needed"
        )
    longest = max(height, width)
    if longest <= LONGEST_SIDE:
        return SourceImage(path.name, pixels), f"{width}x{height}"
    factor = LONGEST_SIDE / longest
    target = max(1, round(width * factor)), max(1, round(height * factor))
    small = to_pillow(quantise(pixels)).resize(target, Image.Resampling.LANCZOS)
    note = f"{width}x{height}, made smaller to {target[0]}x{target[1]} for this page"
    return SourceImage(path.name, as_images(small)[0]), note


def _check_pixels(path: Path) -> None:
    """Refuse by the size that the header states, before anything is decoded."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except Exception:  # whatever is wrong with it, `load_image` has the words
        return
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"the image has {width * height / 1e6:.0f} million pixels; at most "
            f"{MOST_PIXELS / 1e6:.0f} are taken here"
        )

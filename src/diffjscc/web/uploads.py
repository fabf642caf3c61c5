"""Images that visitors bring: bounded, and made small enough to answer quickly."""

from __future__ import annotations

import struct
from importlib.resources import files
from pathlib import Path

from PIL import Image

from diffjscc.data.images import load_stored
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
    stated = _stated_size(path)
    if stated is not None and stated[0] * stated[1] > MOST_PIXELS:
        raise ValueError(
            f"the image has {stated[0] * stated[1] / 1e6:.0f} million pixels; at most "
            f"{MOST_PIXELS / 1e6:.0f} are taken here"
        )
    stored = load_stored(path, LONGEST_SIDE)
    height, width = stored.shape[-2:]
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"the image is {width}x{height}; at least {SMALLEST_SIDE} pixels a side are needed"
        )
    source = SourceImage(path.name, stored)
    if stated is None or max(stated) <= LONGEST_SIDE:
        return source, f"{width}x{height}"
    short, long = sorted(stated)  # as stored; a tag in the file may turn the image
    before = f"{long}x{short}" if width >= height else f"{short}x{long}"
    return source, f"{before}, made smaller to {width}x{height} for this page"


def _stated_size(path: Path) -> tuple[int, int] | None:
    """Width and height that the file states, if any, before anything is decoded."""
    with path.open("rb") as file:
        head = file.read(24)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) == 24:
        width, height = struct.unpack(">II", head[16:])  # Pillow opens no PNG with much text
        return width, height
    try:
        with Image.open(path) as image:
            return image.size
    except Exception:  # whatever is wrong with it, `load_stored` has the words
        return None

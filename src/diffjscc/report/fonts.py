"""Fonts for the letters that labels have: the usual one, or others of this machine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import ImageFont

USUAL = "DejaVu Sans"  # comes with matplotlib; Latin, Greek, Cyrillic, Arabic, Hebrew

# Where there is one of these, its letters are used for those that the usual one lacks.
OTHERS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "SimHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Nirmala UI",
    "Leelawadee UI",
    "Noto Emoji",
    "Segoe UI Symbol",
    "Apple Symbols",
    "Arial Unicode MS",
    "Unifont",
)
MISSING = (
    "no font on this machine has some letters of these labels: boxes stand for them; install one, "
    "such as Noto Sans CJK, or give the schemes other labels"
)
# Beyond Latin, Pillow's own font has these.
_PUNCTUATION = frozenset("–—‘’“”…→≤≥×±")


@cache
def families() -> list[str]:
    """List the families to draw with, the usual one first."""
    from matplotlib import font_manager  # noqa: PLC0415 - it takes a while

    there = {font.name for font in font_manager.fontManager.ttflist}
    return [USUAL, *(name for name in OTHERS if name in there)]


@contextmanager
def one_warning() -> Iterator[None]:
    """Give one warning of letters that no font has, in place of matplotlib's one for each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    letters = [one for one in caught if "missing from" in str(one.message)]
    for one in caught:
        if one not in letters:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if letters:
        warnings.warn(MISSING, stacklevel=3)


def font_for(texts: str, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Choose a font for labels on images: Pillow's own, or one that has their letters.

    Args:
        texts: everything that is written with it.
        size: in pixels.
    """
    if all(ord(letter) < 0x180 or letter in _PUNCTUATION for letter in texts):
        return ImageFont.load_default(size)
    from matplotlib import font_manager  # noqa: PLC0415

    wanted = {ord(letter) for letter in texts if not letter.isspace()}
    files = [font_manager.findfont(name) for name in families()]
    lacking = {file: len(wanted - _letters(file)) for file in files}
    best = min(files, key=lacking.__getitem__)
    if lacking[best]:
        warnings.warn(MISSING, stacklevel=2)
    return ImageFont.truetype(best, size)


@cache
def _letters(file: str) -> frozenset[int]:
    """Code points that a font has."""
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415

    return frozenset(FT2Font(file).get_charmap())

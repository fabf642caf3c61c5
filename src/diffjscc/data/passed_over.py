"""Images that a source does not use: counted, so that none is lost without a word."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from diffjscc.data.decoding import EXTRA_SUFFIXES, is_image_name

# Suffixes of images that Pillow does not read, or not without an extra package.
OTHER_IMAGES = frozenset(EXTRA_SUFFIXES) | frozenset(
    f".{kind}"
    for kind in (
        *("exr", "hdr", "svg", "eps", "psd"),
        *("dng", "nef", "cr2", "cr3", "arw", "raf", "orf", "rw2"),  # cameras' raw files
    )
)


def is_other_image(name: str) -> bool:
    """Return whether a file is an image of a kind that cannot be read here."""
    path = PurePosixPath(name)
    hidden = path.name.startswith(".")
    return not hidden and path.suffix.lower() in OTHER_IMAGES and not is_image_name(path.name)


def unreadable_kinds(names: Sequence[str]) -> str:
    """Count images whose kinds cannot be read, and say the way out; empty where there are none."""
    if not names:
        return ""
    kinds = Counter(PurePosixPath(name).suffix.lower() for name in names)
    extras = sorted({EXTRA_SUFFIXES[kind] for kind in kinds if kind in EXTRA_SUFFIXES})
    install = f", or pip install 'diffjscc[{','.join(extras)}]'" if extras else ""
    return (
        f"passed over {len(names)} images of kinds that cannot be read "
        f"({', '.join(f'{count} {kind}' for kind, count in kinds.most_common(8))}); convert "
        f"them to PNG or JPEG to use them{install}"
    )


def warn_unreadable_kinds(place: str, names: Sequence[str]) -> None:
    """Warn of the images of a place whose kinds cannot be read, if any, with their numbers."""
    if names:
        warnings.warn(f"{place}: {unreadable_kinds(names)}", stacklevel=3)

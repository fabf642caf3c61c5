"""Images that a source does not use: counted, so that none is lost without a word."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from diffjscc.data.images import is_image_name

# Suffixes of images that Pillow does not read, or not without an extra package.
OTHER_IMAGES = frozenset(
    f".{kind}"
    for kind in (
        *("heic", "heif", "hif", "jxl", "exr", "hdr", "svg", "eps", "psd"),
        *("dng", "nef", "cr2", "cr3", "arw", "raf", "orf", "rw2"),  # cameras' raw files
    )
)


def is_other_image(name: str) -> bool:
    """Return whether a file is an image of a kind that cannot be read here."""
    path = PurePosixPath(name)
    hidden = path.name.startswith(".")
    return not hidden and path.suffix.lower() in OTHER_IMAGES and not is_image_name(path.name)


def warn_unreadable_kinds(place: str, names: Sequence[str]) -> None:
    """Warn of the images of a place whose kinds cannot be read, if any, with their numbers."""
    if names:
        kinds = Counter(PurePosixPath(name).suffix.lower() for name in names)
        warnings.warn(
            f"{place}: passed over {len(names)} images of kinds that cannot be read "
            f"({', '.join(f'{count} {kind}' for kind, count in kinds.most_common(8))}); convert "
            "them to PNG or JPEG to use them",
            stacklevel=3,
        )

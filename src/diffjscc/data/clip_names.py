"""Names of clips that can be written. Little is imported, so that the command line starts fast."""

import os
from pathlib import Path

# Encoder of each suffix, none for Pillow's GIF, and settings at which its loss is hardly seen.
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("libx264", {"crf": "14"}),
    ".mkv": ("libx264", {"crf": "14"}),
    ".webm": ("libvpx-vp9", {"crf": "16", "b": "0", "cpu-used": "4"}),
}
CLIP_SUFFIXES = (".gif", *ENCODERS)


def is_clip_output(path: Path) -> bool:
    """Return whether a clip is written to this path: by its suffix, unless a folder is there."""
    # Not Path.is_dir, which raises an error where a name is too long.
    return path.suffix.lower() in CLIP_SUFFIXES and not os.path.isdir(path)  # noqa: PTH112

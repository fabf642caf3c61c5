"""Sources of training images: a folder, tar shards, a pack, an array, or a dataset of one's own."""

from __future__ import annotations

from pathlib import Path

from diffjscc.data.arrays_file import ArraySource
from diffjscc.data.datasets import DatasetSource
from diffjscc.data.folders import FolderSource, ImageSource, Joined, Subset, visible_files
from diffjscc.data.images import ImageError, is_image_name
from diffjscc.data.packed import PackedSource, is_pack, pack
from diffjscc.data.shards import ShardSource, find_shards
from diffjscc.paths import expanded

__all__ = [
    "DatasetSource",
    "FolderSource",
    "ImageSource",
    "Joined",
    "PackedSource",
    "ShardSource",
    "Subset",
    "open_source",
    "pack",
]


def open_source(place: str | Path) -> ImageSource:
    """Open a source of images.

    Args:
        place: a folder of images or of .tar shards (searched recursively); one shard, or
            a pattern of them (`train-{00..11}.tar`, `train-*.tar`); a pack written by `pack`; or
            an .npz file of images, see `ArraySource`.

    Raises:
        ImageError: `place` is none of these, or contains no images.
    """
    path = Path(expanded(place))
    try:
        if path.is_dir():
            shards = find_shards(path)
            if not shards:
                return FolderSource(path)
            beside = next(filter(is_image_name, visible_files(path)), None)
            if beside is not None:
                raise ImageError(
                    place,
                    f"contains both tar shards ({shards[0].name}) and image files ({beside})",
                    f"name one of them: {place}/*.tar, or a folder of the images alone",
                )
            return ShardSource(shards)
        if path.is_file():
            if path.suffix.lower() == ".tar":
                return ShardSource([path])
            if path.suffix.lower() == ".npz":
                return ArraySource(path)
            if is_pack(path):
                return PackedSource(path)
            raise ImageError(
                path,
                "is neither a .tar shard, a pack nor an .npz file",
                "give the folder that contains the images",
            )
    except OSError as error:
        raise ImageError(
            place, f"cannot be read ({error.strerror})", "check its permissions"
        ) from error
    if path.suffix.lower() == ".tar":
        return ShardSource(find_shards(path))
    raise ImageError(place, "does not exist", "give a folder, .tar shards or a pack")

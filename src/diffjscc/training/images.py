"""Training and validation images: opened, split, and decoded once if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import PartialState

from diffjscc.data.datasets import Dataset
from diffjscc.data.folders import fingerprint_of
from diffjscc.data.images import ImageError
from diffjscc.data.manifest import read_manifest
from diffjscc.data.packed import pack_fingerprint
from diffjscc.data.sources import (
    DatasetSource,
    ImageSource,
    Joined,
    PackedSource,
    Subset,
    open_source,
    pack,
)
from diffjscc.paths import expanded
from diffjscc.plugins import Factory, is_import_string
from diffjscc.training.config import DataConfig


def open_images(
    config: DataConfig, dataset: Dataset | None = None
) -> tuple[ImageSource, ImageSource | None]:
    """Open the images to train on, and those to validate on, if any.

    Args:
        config: settings.
        dataset: takes the place of `config.train`.

    Raises:
        ValueError: no images there, a manifest of other images, or an import string that leads
            to no dataset.
    """
    everything = _open(config.train, config.args) if dataset is None else DatasetSource(dataset)
    if config.packed is not None:
        with PartialState().main_process_first():
            everything = pack(everything, config.packed)
    if config.split is None:
        training, held_out = everything, None
    else:
        manifest = read_manifest(config.split)
        training = manifest.select(everything, "train")
        held_out = manifest.select(everything, "validation")
    if config.further is not None:
        training = Joined([training, *[_open(config.further, {})] * config.further_crops])
    validation = held_out if config.validation is None else _open(config.validation, {})
    return training, validation


def identity(images: ImageSource) -> str:
    """Hash of images wherever they lie: folders, shards and packs may move between runs.

    A pack of all images of a folder counts as that folder.
    """
    whole = images.source if isinstance(images, Subset) else images
    packed = isinstance(whole, PackedSource)
    content = whole.fingerprint if packed else pack_fingerprint(whole, None)
    names = images.names if isinstance(images, Subset) else ()
    return fingerprint_of([(content, len(images)), *((name, 0) for name in names)])


def _open(place: str, args: dict[str, Any]) -> ImageSource:
    """Open a folder, shards or a pack, or what an import string makes."""
    if is_import_string(place) and not Path(place).exists():
        return DatasetSource(Factory(factory=place, args=args).make(), place)
    if args:
        raise ValueError(
            f"data.args are for an import string such as my_module:make_dataset; {place} is a path"
        )
    try:
        return open_source(place)
    except ImageError as error:
        if Path(expanded(place)).exists():
            raise
        raise ImageError(
            place,
            error.problem,
            "put photographs there, or name your own by data.train=FOLDER (or shards, or "
            "my_module:make_dataset); `diffjscc fetch openimages` downloads a data set",
        ) from error

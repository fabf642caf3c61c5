"""Training and validation images: opened, split, and decoded once if asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState

from diffjscc.data.manifest import read_manifest
from diffjscc.data.sources import DatasetSource, ImageSource, open_source, pack
from diffjscc.schemes.plugins import import_object
from diffjscc.training.config import DataConfig

IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def open_images(config: DataConfig) -> tuple[ImageSource, ImageSource | None]:
    """Open the images to train on, and those to validate on, if any.

    Raises:
        ValueError: no images there, a manifest of other images, or an import string that leads
            to no dataset.
    """
    everything = _open(config.train, config.args)
    if config.packed is not None:
        with PartialState().main_process_first():
            everything = pack(everything, config.packed)
    if config.split is None:
        training, held_out = everything, None
    else:
        manifest = read_manifest(config.split)
        training = manifest.select(everything, "train")
        held_out = manifest.select(everything, "validation")
    validation = held_out if config.validation is None else _open(config.validation, {})
    return training, validation


def _open(place: str, args: Mapping[str, Any]) -> ImageSource:
    """A folder, shards or a pack, or what an import string makes."""
    if not IMPORT_STRING.fullmatch(place) or Path(place).exists():
        if args:
            raise ValueError(
                f"data.args are for an import string, such as my_module:make_dataset; {place} is "
                "none"
            )
        return open_source(place)
    make = import_object(place)
    if not callable(make):
        raise ValueError(  # noqa: TRY004 - a broken config, not a wrong call
            f"{place} is of {type(make).__name__}; give a function that returns a dataset"
        )
    try:
        dataset = make(**args)
    except TypeError as error:
        raise ValueError(f"{place} could not be called with data.args: {error}") from error
    return DatasetSource(dataset, place)

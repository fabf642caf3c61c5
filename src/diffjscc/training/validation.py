"""The images of a run: opened, split, and decoded once if asked for."""

from __future__ import annotations

from accelerate import PartialState

from diffjscc.data.manifest import read_manifest
from diffjscc.data.sources import ImageSource, open_source, pack
from diffjscc.training.config import DataConfig


def open_images(config: DataConfig) -> tuple[ImageSource, ImageSource | None]:
    """The images to train on, and those to validate on, if any.

    Raises:
        ValueError: no images there, or a manifest of other images.
    """
    everything = open_source(config.train)
    if config.packed is not None:
        with PartialState().main_process_first():
            everything = pack(everything, config.packed)
    if config.split is None:
        training, held_out = everything, None
    else:
        manifest = read_manifest(config.split)
        training = manifest.select(everything, "train")
        held_out = manifest.select(everything, "validation")
    validation = held_out if config.validation is None else open_source(config.validation)
    return training, validation

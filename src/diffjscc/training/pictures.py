"""The pictures of a run: opened, split, and decoded once if asked for."""

from __future__ import annotations

from accelerate import PartialState

from diffjscc.data.manifest import read_manifest
from diffjscc.data.sources import PictureSource, open_source, pack
from diffjscc.training.config import DataConfig


def open_pictures(config: DataConfig) -> tuple[PictureSource, PictureSource | None]:
    """The pictures to train on, and those to validate on, if any.

    Raises:
        ValueError: no pictures there, or a manifest of other pictures.
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

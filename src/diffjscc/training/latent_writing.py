"""Computing latents of all images, once, into the folder that `latents` describes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from diffjscc.data.images import ImageError
from diffjscc.data.sources import ImageSource
from diffjscc.pretrained.storage import write_json
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.training.latents import (
    INDEX,
    PART,
    ImageLatents,
    check_index,
    part_count,
    part_path,
    write_part,
)

TILE = DiffusionConfig().tile


def fitted(image: NDArray[np.uint8], smallest: int, largest: int | None, multiple: int) -> Tensor:
    """Resize and crop an image to a size that latents are computed for.

    Args:
        image: uint8 [H, W, 3].
        smallest: a shorter short side is enlarged to this, in pixels.
        largest: a longer short side is reduced to this, in pixels; None keeps it.
        multiple: right and bottom are cut to multiples of this, in pixels.

    Returns:
        float32 [1, 3, H', W'] in [0, 1].
    """
    short = min(image.shape[:2])
    target = max(short if largest is None else min(short, largest), smallest)
    if target != short:
        height, width = (round(n * target / short) for n in image.shape[:2])
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        image = np.asarray(resized)
    height, width = (n // multiple * multiple for n in image.shape[:2])
    pixels = torch.from_numpy(image[:height, :width].copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


def fill(
    folder: Path,
    expected: dict[str, Any],
    images: ImageSource,
    compute: Callable[[NDArray[np.uint8], int, str | None], ImageLatents],
) -> None:
    """Write the parts that `folder` lacks; several processes share them.

    Args:
        folder: created if needed. Each part is written atomically.
        expected: all settings that the latents depend on, for the index.
        images: one that cannot be read is left out, with a warning.
        compute: from an image uint8 [H, W, 3], its number and its caption, if it has one.

    Raises:
        ValueError: the folder holds latents made with other settings.
    """
    state = PartialState()
    with state.main_process_first():
        if (folder / INDEX).exists():
            check_index(folder, expected)
        elif state.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / INDEX, expected)
    # Shared by number, not by what is left: others may be writing while this one looks.
    mine = range(state.process_index, part_count(len(images)), state.num_processes)
    numbers = {n: range(n * PART, min((n + 1) * PART, len(images))) for n in mine}
    with Progress(console=Console(stderr=True), disable=not state.is_main_process) as bar:
        task = bar.add_task("precomputing", total=sum(map(len, numbers.values())))

        def latents(part: range) -> Iterator[ImageLatents]:
            for number in part:
                try:
                    yield compute(images[number], number, images.caption(number))
                except ImageError as error:
                    warnings.warn(f"left out: {error}", stacklevel=2)
                bar.advance(task)

        for number, part in numbers.items():
            path = part_path(folder, number)
            if path.exists():
                bar.advance(task, len(part))
                continue
            write_part(path, latents(part))
    state.wait_for_everyone()

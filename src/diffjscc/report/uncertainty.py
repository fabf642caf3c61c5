"""Uncertainty maps as images: in colours, with a colour bar and a caption."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffjscc.data.images import to_pillow
from diffjscc.evaluation.uncertainty import FULL_SCALE, colours
from diffjscc.report.panels import MARGIN, SMALLEST_WIDTH

TICKS = 4


def uncertainty_image(spread: Tensor, full_scale: float = FULL_SCALE) -> Tensor:
    """Render the map in colours, and under it a colour bar with numbers in 8-bit levels.

    Args:
        spread: see `colours`.
        full_scale: see `colours`.

    Returns:
        float32 [3, H', W'] in [0, 1]; its first H rows and W columns are `colours`, and W' is
        W or, where numbers need more, 320.

    Raises:
        ValueError: see `colours`.
    """
    panel = to_pillow(colours(spread, full_scale))
    width = max(panel.width, SMALLEST_WIDTH)
    size = max(14, min(28, width // 40))
    font = ImageFont.load_default(size)
    sheet = Image.new("RGB", (width, panel.height + 2 * MARGIN + 4 * size), "white")
    sheet.paste(panel, (0, 0))
    canvas = ImageDraw.Draw(sheet)
    left, right, top = MARGIN, width - MARGIN, panel.height + MARGIN
    ramp = torch.linspace(0, full_scale, right - left).expand(size, -1)
    sheet.paste(to_pillow(colours(ramp, full_scale)), (left, top))
    for tick in range(TICKS + 1):
        text = f"{255 * full_scale * tick / TICKS:.3g}"
        place = left + (right - 1 - left) * tick / TICKS
        anchor = "mt"
        if tick == 0:
            anchor = "lt"
        elif tick == TICKS:
            text, anchor = f"{text}+", "rt"
        canvas.text((place, top + 1.3 * size), text, fill="black", font=font, anchor=anchor)
    words = f"disagreement in 8-bit levels; mean {255 * spread.mean():.1f}"
    canvas.text((left, top + 2.6 * size), words, fill="black", font=font, anchor="lt")
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).float() / 255


def map_label(spread: Tensor, samples: int, refined: bool = True) -> str:
    """Describe a map [H, W] of some samples in a caption.

    Args:
        spread: see `disagreement`.
        samples: their number.
        refined: whether the receiver changed the initial image at all.
    """
    if not refined:
        return (
            "where samples disagree: nowhere (0 of 255 levels), since nothing was generated; the "
            "final image is the initial one"
        )
    return (
        f"where {samples} images sampled from the same symbols disagree, on average by "
        f"{255 * spread.mean():.1f} of 255 levels: black not at all, yellow by "
        f"{255 * FULL_SCALE:.3g} or more; errors that all of them share do not show"
    )

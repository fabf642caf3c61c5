"""Images next to each other, with labels under them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffjscc.data.images import to_pillow
from diffjscc.report.fonts import font_for

LARGEST_SIDE = 2048  # larger panels are scaled down: the reconstructions are written apart anyway
SMALLEST_WIDTH = 320  # smaller ones are scaled up by a whole number, so that pixels stay pixels
MARGIN = 12


def panel(image: Tensor) -> Image.Image:
    """Scale an image to the size in which `side_by_side` shows it.

    Args:
        image: [3, H, W] in [0, 1], or 8-bit levels.
    """
    return _fit(to_pillow(image))


def _fit(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest > LARGEST_SIDE:
        size = [max(1, round(side * LARGEST_SIDE / longest)) for side in image.size]
        return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    factor = min(-(-SMALLEST_WIDTH // image.width), max(1, LARGEST_SIDE // longest))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def side_by_side(
    images: Sequence[Tensor | Image.Image], labels: Sequence[str], columns: int | None = None
) -> Tensor:
    """Compose one labelled image from several.

    Args:
        images: [3, H, W] in [0, 1] or 8-bit levels, of any sizes; or what `panel` made of them.
        labels: a text under each.
        columns: images beside each other before the next row begins; None: all of them.

    Returns:
        [3, h, w] in [0, 1].
    """
    panels = [panel(image) if isinstance(image, Tensor) else image for image in images]
    across = columns or len(panels)
    size = max(14, min(28, max(one.width for one in panels) // 40))
    font = font_for("".join(labels), size)
    widths = [max(one.width, SMALLEST_WIDTH) for one in panels]
    widest = [max(widths[place::across]) for place in range(across)]
    texts = [_wrap(label, font, widest[i % across]) for i, label in enumerate(labels)]
    rows = [range(len(panels))[first : first + across] for first in range(0, len(panels), across)]
    heights = [max(panels[i].height for i in row) for row in rows]
    text_heights = [round(1.5 * size) * max(texts[i].count("\n") + 1 for i in row) for row in rows]
    total = sum(heights) + sum(text_heights) + MARGIN * (2 * len(rows) + 1)
    sheet = Image.new("RGB", (sum(widest) + MARGIN * (across + 1), total), "white")
    canvas = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, height, text_height in zip(rows, heights, text_heights, strict=True):
        left = MARGIN
        for i, column in zip(row, widest, strict=False):
            sheet.paste(panels[i], (left, top))
            canvas.multiline_text((left, top + height + MARGIN), texts[i], fill="black", font=font)
            left += column + MARGIN
        top += height + text_height + 2 * MARGIN
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).float() / 255

"""Pictures next to each other, with labels under them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffjscc.data.pictures import to_pillow

LARGEST_SIDE = 2048  # larger panels are scaled down: the reconstructions are written apart anyway
SMALLEST_WIDTH = 320  # smaller ones are scaled up by a whole number, so that pixels stay pixels
MARGIN = 12


def _fit(picture: Image.Image) -> Image.Image:
    longest = max(picture.size)
    if longest > LARGEST_SIDE:
        size = [max(1, round(side * LARGEST_SIDE / longest)) for side in picture.size]
        return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    factor = min(-(-SMALLEST_WIDTH // picture.width), max(1, LARGEST_SIDE // longest))
    return picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def side_by_side(pictures: Sequence[Tensor], labels: Sequence[str]) -> Tensor:
    """One labelled picture [3, h, w] in [0, 1] from pictures [3, H, W] in [0, 1]."""
    panels = [_fit(to_pillow(picture)) for picture in pictures]
    size = max(14, min(28, max(panel.width for panel in panels) // 40))
    font = ImageFont.load_default(size)
    cells = [max(panel.width, SMALLEST_WIDTH) for panel in panels]
    texts = [_wrap(label, font, cell) for label, cell in zip(labels, cells, strict=True)]
    text_height = round(1.5 * size) * max(text.count("\n") + 1 for text in texts)
    picture_height = max(panel.height for panel in panels)
    sheet = Image.new(
        "RGB",
        (sum(cells) + MARGIN * (len(cells) + 1), picture_height + text_height + 3 * MARGIN),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    left = MARGIN
    for panel, text, cell in zip(panels, texts, cells, strict=True):
        sheet.paste(panel, (left, MARGIN))
        draw.multiline_text((left, picture_height + 2 * MARGIN), text, fill="black", font=font)
        left += cell + MARGIN
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).float() / 255

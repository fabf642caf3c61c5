"""Padding of images to multiples of a network's stride, and cropping.

`pad_to_multiple` and `crop` are used by the codecs. The `released_*` functions reproduce the
preprocessing of the released code: images are enlarged to a short side of at least 512, padded with
black to multiples of 64, and resized to their original size afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Padding = Literal["reflect", "zero"]

# An enlarged image beyond this many pixels is refused (a strip of 1x5000 would need 1.3 Gpx).
_MAX_ENLARGED_PIXELS = 100_000_000


def padded_length(length: int, multiple: int) -> int:
    """Round `length` up to a multiple of `multiple`."""
    return -(-length // multiple) * multiple


def _reflect_indices(length: int, target: int, device: torch.device) -> Tensor:
    """Compute indices 0 … n-1, n-2 … 1, 0, 1 …: repeated reflection, valid for one pixel, too."""
    period = max(2 * (length - 1), 1)
    position = torch.arange(target, device=device) % period
    return torch.where(position < length, position, period - position)


def pad_to_multiple(images: Tensor, multiple: int, padding: Padding = "reflect") -> Tensor:
    """Pad right and bottom so that both sides are multiples of `multiple`.

    Args:
        images: [B, C, H, W], any H and W of at least 1.
        multiple: number of pixels.
        padding: "reflect" (no artificial edges) or "zero" (as in the released code).

    Returns:
        [B, C, H', W'], the images in the top left corner.
    """
    height, width = images.shape[-2:]
    target = padded_length(height, multiple), padded_length(width, multiple)
    if target == (height, width):
        return images
    if padding == "zero":
        return F.pad(images, (0, target[1] - width, 0, target[0] - height))
    rows = _reflect_indices(height, target[0], images.device)
    columns = _reflect_indices(width, target[1], images.device)
    return images[..., rows, :][..., columns]


@dataclass(frozen=True)
class PaddedImages:
    """Images padded as by `pad_to_multiple`, of which rows are made when they are needed.

    Attributes:
        images: [B, C, H, W].
        multiple: number of pixels.
        padding: see `pad_to_multiple`.
    """

    images: Tensor
    multiple: int
    padding: Padding = "reflect"

    @property
    def size(self) -> tuple[int, int]:
        """Padded (H', W')."""
        height, width = self.images.shape[-2:]
        return padded_length(height, self.multiple), padded_length(width, self.multiple)

    def whole(self) -> Tensor:
        """All rows, [B, C, H', W']."""
        return pad_to_multiple(self.images, self.multiple, self.padding)

    def rows(self, rows: slice) -> Tensor:
        """Some rows, [B, C, r, W']; equal to those of `whole`."""
        height, width = self.images.shape[-2:]
        target = self.size
        inside = slice(rows.start, min(rows.stop, height))
        if self.padding == "zero":
            band = self.images[..., inside, :]
            return F.pad(band, (0, target[1] - width, 0, rows.stop - max(inside.stop, rows.start)))
        if rows.stop <= height:
            band = self.images[..., rows, :]
        else:
            band = self.images[
                ..., _reflect_indices(height, target[0], self.images.device)[rows], :
            ]
        if width == target[1]:
            return band
        return band[..., _reflect_indices(width, target[1], self.images.device)]


def crop(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop [B, C, H', W'] to its top left (H, W); undoes `pad_to_multiple`."""
    return images[..., : size[0], : size[1]]


def released_size(size: tuple[int, int], short_side: int = 512) -> tuple[int, int]:
    """Compute (H, W) after enlargement: ceil(side·short_side/min(H, W)), never smaller.

    Raises:
        ValueError: the image is so narrow that it would be enlarged beyond 100 megapixels.
    """
    short = min(size)
    if short >= short_side:
        return size
    ratio = short_side / short  # in float64, as in the reference
    height, width = math.ceil(size[0] * ratio), math.ceil(size[1] * ratio)
    if height * width > _MAX_ENLARGED_PIXELS:
        raise ValueError(
            f"a {size[1]}x{size[0]} image would be enlarged to {width}x{height}, more than "
            f'{_MAX_ENLARGED_PIXELS // 10**6} megapixels; crop it, or use the geometry "reflect"'
        )
    return height, width


def _to_pillow(image: Tensor) -> Image.Image:
    """Convert float [3, H, W] in [0, 1] to 8 bits by truncation, as the released code does."""
    values = (image.detach().float().cpu().clamp(0, 1) * 255).to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())


def _from_pillow(image: Image.Image) -> Tensor:
    """Convert 8-bit RGB to float32 [3, H, W] in [0, 1]."""
    values = torch.from_numpy(np.array(image, dtype=np.uint8))
    return values.permute(2, 0, 1).contiguous().float() / 255


def released_prepare(image: Tensor, short_side: int = 512, multiple: int = 64) -> Tensor:
    """Enlarge an image (bicubic, 8-bit) and pad it with black, as the released code does.

    Args:
        image: float [3, H, W] in [0, 1].
        short_side: smaller images are enlarged to this short side, in pixels.
        multiple: both sides are padded to multiples of this number of pixels.

    Returns:
        float32 [3, H', W'], quantised to 8 bits, on the device of `image`.
    """
    pillow = _to_pillow(image)
    height, width = released_size((pillow.height, pillow.width), short_side)
    if (height, width) != (pillow.height, pillow.width):
        pillow = pillow.resize((width, height), Image.Resampling.BICUBIC)
    prepared = _from_pillow(pillow).to(image.device)
    return pad_to_multiple(prepared[None], multiple, "zero")[0]


def released_restore(image: Tensor, size: tuple[int, int], short_side: int = 512) -> Tensor:
    """Crop the padding and resize an image to its original size (Lanczos, 8-bit).

    Args:
        image: float [3, H', W'] in [0, 1], of the size returned by `released_prepare`.
        size: (H, W) of the original image, in pixels.
        short_side: as given to `released_prepare`.

    Returns:
        float32 [3, H, W], quantised to 8 bits, on the device of `image`.
    """
    pillow = _to_pillow(crop(image, released_size(size, short_side)))
    if (pillow.height, pillow.width) != size:
        pillow = pillow.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return _from_pillow(pillow).to(image.device)

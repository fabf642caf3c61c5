"""Content of images in a few numbers, from which the quality of their transmission is predicted."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 16  # pixels a block
SCALES = 4  # Haar scales within a block, of 1, 2, 4 and 8 pixels
FEATURES = 2 * SCALES + 4
LEAST = (0.25 / 255) ** 2  # power that is as good as none
COLOURS = ((1 / 3, 1 / 3, 1 / 3), (0.5, 0.0, -0.5), (0.25, -0.5, 0.25))


def content_features(images: Tensor) -> Tensor:
    """Compute the logarithms of an image's power by scale.

    The power of a scale is that of the Haar wavelets of so many pixels. Of brightness at each
    scale, and of the colours within blocks of 16x16 pixels: the logarithm of the mean power, and
    the mean over blocks of its logarithm, which is lower where detail is in few places. Last, the
    power between blocks, of brightness and of colours.

    Args:
        images: [B, 3, H, W] in [0, 1].

    Returns:
        float32 [B, FEATURES].
    """
    height, width = images.shape[-2:]
    missing = 0, max(0, SIDE - width), 0, max(0, SIDE - height)
    whole = F.pad(images, missing, "replicate")
    whole = whole[..., : whole.shape[-2] // SIDE * SIDE, : whole.shape[-1] // SIDE * SIDE]
    planes = torch.einsum("kc,bchw->bkhw", whole.new_tensor(COLOURS), whole)
    columns, colours = list[Tensor](), torch.zeros(())
    for scale in range(SCALES):
        coarse = F.avg_pool2d(planes, 2)
        lost = F.avg_pool2d(planes.square(), 2) - coarse.square()
        local = F.avg_pool2d(lost.clamp(min=0), SIDE >> (scale + 1))
        columns += _logarithms(local[:, 0])
        colours = colours + local[:, 1:].sum(dim=1)
        planes = coarse
    columns += _logarithms(colours)
    between = planes.var(dim=(2, 3), correction=0)
    columns += [_log(between[:, 0]), _log(between[:, 1:].sum(dim=1))]
    return torch.stack(columns, dim=1)


def _logarithms(power: Tensor) -> list[Tensor]:
    """Logarithm of the mean power [B, h, w], and mean of the logarithms, each [B]."""
    return [_log(power.mean(dim=(1, 2))), _log(power).mean(dim=(1, 2))]


def _log(power: Tensor) -> Tensor:
    return (power + LEAST).log()

"""Finishing of decoded images, band by band.

Lost detail comes back, colours are corrected, and invented texture is limited to what there was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.data.geometry import PaddedImages
from diffjscc.layers.banding import Bands, Stage, collect, flow
from diffjscc.layers.block_dct import STRIDE
from diffjscc.layers.texture import fine_scales, local_deviation
from diffjscc.refiners.colour import Correction


@dataclass(frozen=True)
class Targets:
    """Properties that decoded images are to have when they are finished.

    Attributes:
        prepared: B images of their padded size (H', W'), with their colours.
        size: height and width (H, W) of the finished images.
        texture: largest deviation of fine scales, log2 of levels of 255, as a texture map
            [B, 1, H'/16, W'/16]; None for any.
    """

    prepared: PaddedImages
    size: tuple[int, int]
    texture: Tensor | None = None

    def select(self, rows: list[int]) -> Targets:
        """Take the targets of some images; an index may occur several times."""
        texture = None if self.texture is None else self.texture[rows]
        prepared = replace(self.prepared, images=self.prepared.images[rows])
        return Targets(prepared, self.size, texture)


def coloured_as(decoded: Bands, reference: PaddedImages, fix: Correction) -> Bands:
    """Give decoded images the colours of the prepared ones.

    Args:
        decoded: bands of images.
        reference: the prepared images, as many.
        fix: the correction.
    """
    height = reference.size[0]

    def corrected(x: Tensor, keep: slice, top: int) -> Tensor:
        rows = reference.rows(slice(top, top + x.shape[-2]))
        if x.shape[-2] < height:  # filters of large images are fast on this layout alone
            x = x.contiguous(memory_format=torch.channels_last)
            rows = rows.contiguous(memory_format=torch.channels_last)
        return fix.correct(x, rows)[..., keep, :]

    if fix.reach is None:
        decoded = iter([collect(decoded, height)])
    return flow([Stage(corrected, fix.reach or 0)], decoded, height)


def with_detail(
    decoded: Bands, own: Bands, prepared: PaddedImages, fractions: list[float]
) -> Bands:
    """Add fractions of what the VAE loses of the prepared images to decoded ones.

    Args:
        decoded: bands of B·N images, an image's N samples one after the other.
        own: the B prepared images encoded and decoded, in the same bands.
        prepared: the B images.
        fractions: of each of them.
    """
    top = 0
    for band, lost in zip(decoded, own, strict=True):
        bottom = top + band.shape[-2]
        lost.neg_().add_(prepared.rows(slice(top, bottom)))
        lost.mul_(torch.tensor(fractions, device=lost.device)[:, None, None, None])
        yield band.add_(lost.repeat_interleave(len(band) // len(lost), dim=0))
        top = bottom


def with_limited_texture(decoded: Bands, most: Tensor) -> Bands:
    """Attenuate the fine scales of decoded images where they deviate more than is allowed.

    Each 16x16 pixels get the gain min(1, 2^(allowed - own)), linear in between.

    Args:
        decoded: bands of images, of multiples of 16 rows in all.
        most: log2 of the largest deviation in levels of 255, [B, 1, H/16, W/16].
    """

    def limited(x: Tensor, keep: slice, top: int) -> Tensor:
        allowed = most[..., top : top + x.shape[-2] // STRIDE, :]
        fine = fine_scales(x)
        own = local_deviation(fine.mean(dim=1, keepdim=True), STRIDE)
        gain = torch.exp2((allowed - own).clamp(max=0))
        gain = F.interpolate(gain, scale_factor=STRIDE, mode="bilinear", align_corners=False)
        rows = slice(keep.start and STRIDE * keep.start, keep.stop and STRIDE * keep.stop)
        return (x - (1 - gain) * fine)[..., rows, :]

    # A gain depends on its neighbours', each on windows that reach into the next 16 rows.
    return flow([Stage(limited, 2, STRIDE)], decoded, STRIDE * most.shape[-2])

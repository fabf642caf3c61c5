"""Finishing of decoded images, band by band.

Lost detail comes back, colours are corrected, invented texture is limited to what there was, and
the initial image stays where none is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.data.geometry import PaddedImages
from diffjscc.layers.banding import Bands, Stage, collect, flow
from diffjscc.layers.block_dct import STRIDE
from diffjscc.layers.texture import fine_scales, local_deviation, texture_map
from diffjscc.refiners.colour import Correction

# Rows of a texture map around a band: what a position does to pixels depends on its neighbours,
# and their windows reach into the next 16 pixels.
MAP_REACH = 2


@dataclass(frozen=True)
class Targets:
    """Properties that decoded images are to have when they are finished.

    Attributes:
        prepared: B images of their padded size (H', W'), with their colours.
        size: height and width (H, W) of the finished images.
        texture: received texture map [B, 1, H'/16, W'/16]; None without one.
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
        gain = _by_pixel(torch.exp2((allowed - own).clamp(max=0)))
        return (x - (1 - gain) * fine)[..., _rows(keep), :]

    return flow([Stage(limited, MAP_REACH, STRIDE)], decoded, STRIDE * most.shape[-2])


def only_where_missing(
    decoded: Bands, prepared: PaddedImages, texture: Tensor, span: tuple[float, float]
) -> Bands:
    """Keep the prepared images where their fine scales deviate as the map says.

    Args:
        decoded: bands of images, of multiples of 16 rows in all.
        prepared: the initial images, as many.
        texture: texture map [B, 1, H/16, W/16].
        span: octaves missing from the prepared images at which the share of the decoded ones is 0
            and 1; linear in between.
    """
    low, high = span

    def mixed(x: Tensor, keep: slice, top: int) -> Tensor:
        positions = slice(top, top + x.shape[-2] // STRIDE)
        initial = prepared.rows(slice(STRIDE * positions.start, STRIDE * positions.stop))
        missing = texture[..., positions, :] - texture_map(initial)
        share = _by_pixel(((missing - low) / (high - low)).clamp(0, 1))
        return torch.lerp(initial, x, share)[..., _rows(keep), :]

    return flow([Stage(mixed, MAP_REACH, STRIDE)], decoded, STRIDE * texture.shape[-2])


def _by_pixel(values: Tensor) -> Tensor:
    """Interpolate values of a map's positions, [B, 1, H/16, W/16], to every pixel."""
    return F.interpolate(values, scale_factor=STRIDE, mode="bilinear", align_corners=False)


def _rows(positions: slice) -> slice:
    """The rows of pixels of some rows of a map."""
    return slice(
        positions.start and STRIDE * positions.start, positions.stop and STRIDE * positions.stop
    )

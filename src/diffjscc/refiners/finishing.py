"""Finishing of decoded images, band by band: lost detail comes back, colours are corrected."""

from __future__ import annotations

import torch
from torch import Tensor

from diffjscc.data.geometry import PaddedImages
from diffjscc.layers.banding import Bands, Stage, collect, flow
from diffjscc.refiners.colour import Correction


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

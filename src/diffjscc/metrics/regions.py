"""LPIPS of the regions of an image, where one reconstruction is better than another, or worse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.metrics.lpips import LPIPS

SIDE = 64  # pixels a region


@torch.no_grad()
def regional_lpips(lpips: LPIPS, images: Tensor, references: Tensor, side: int = SIDE) -> Tensor:
    """Compute the contribution of each region to LPIPS, averaged within it.

    Args:
        lpips: the metric.
        images: float32 [B, 3, H, W] in [0, 1].
        references: likewise.
        side: of a region in pixels; H and W are at least as large, and what does not fill a region
            widens all of them.

    Returns:
        float32 [B, H // side, W // side]; their mean is LPIPS, to the sizes of the regions.
    """
    grid = (images.shape[-2] // side, images.shape[-1] // side)
    total = torch.zeros(len(images), *grid, device=images.device)
    taps = zip(lpips.taps(images), lpips.taps(references), lpips.heads, strict=True)
    for features, known, head in taps:
        difference = F.normalize(features, eps=1e-10) - F.normalize(known, eps=1e-10)
        total += F.adaptive_avg_pool2d(head(difference.square()), grid)[:, 0]
    return total

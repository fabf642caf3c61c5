"""Received texture maps: the share of sampling that each latent position keeps.

A prior of sharp photographs samples texture where the original had none: in what was out of focus,
on walls, skies and skin. Where the map says so, the latent of the initial image stays.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from diffjscc.layers.block_dct import STRIDE


def kept_share(texture: Tensor, span: tuple[float, float], stride: int) -> Tensor:
    """Compute the share of the sampled latent that each latent position keeps.

    Args:
        texture: texture map [B, 1, ⌈H/16⌉, ⌈W/16⌉], log2 of levels, see `layers.texture`.
        span: values of the map at which the share is 0 and 1; linear in between.
        stride: pixels per latent position and side.

    Returns:
        float32 in [0, 1], [B, 1, ⌈H/16⌉·16/stride, ⌈W/16⌉·16/stride].
    """
    low, high = span
    share = ((texture.float() - low) / (high - low)).clamp(0, 1)
    if stride == STRIDE:
        return share
    return F.interpolate(share, scale_factor=STRIDE / stride, mode="bilinear", align_corners=False)


def fit(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop values [B, 1, h, w], or repeat the last ones, to the size (h', w') of a padded image."""
    height, width = values.shape[-2:]
    missing = max(0, size[0] - height), max(0, size[1] - width)
    padded = F.pad(values, (0, missing[1], 0, missing[0]), mode="replicate")
    return padded[..., : size[0], : size[1]]

"""Bias-free denoiser of images, a prior of photographs that needs to know no noise level.

Without biases a network of convolutions and ReLUs is homogeneous, D(a·x) = a·D(x) for a ≥ 0, and
removes noise of levels that it was not trained on, too (Mohan et al., arXiv 1906.05478). D(x) - x
approximates σ² times the gradient of the log density of noisy photographs (Kadkhodaie and
Simoncelli, arXiv 2007.13640).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.data.geometry import crop, pad_to_multiple
from diffjscc.refiners.library import ConfigMixin, ModelMixin, register_to_config

FINEST = 2  # pixels of a position of the finest features


class Block(nn.Module):
    """Two convolutions around a ReLU, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform features [B, width, h, w]."""
        out: Tensor = x + self.second(F.relu(self.first(x)))
        return out


class BiasFreeDenoiser(ModelMixin, ConfigMixin):
    """U-shaped network of convolutions without biases and ReLUs.

    Args:
        widths: feature channels at 1/2, 1/4, … of the image size.
        blocks: residual blocks at each size, on the way down and on the way up.
    """

    @register_to_config
    def __init__(self, *, widths: tuple[int, ...] = (24, 48, 64), blocks: int = 1) -> None:
        super().__init__()
        if not widths or blocks < 1:
            raise ValueError(f"widths {widths} and blocks {blocks}: give at least one of each")
        shallow = 3 * FINEST**2
        steps = list(pairwise(widths))

        def stack(width: int) -> nn.Sequential:
            return nn.Sequential(*(Block(width) for _ in range(blocks)))

        self.stem = nn.Conv2d(shallow, widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(nn.Conv2d(4 * a, b, 1, bias=False) for a, b in steps)
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1, bias=False) for a, b in steps)
        self.before = nn.ModuleList(stack(width) for width in widths)
        self.after = nn.ModuleList(stack(width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], shallow, 3, padding=1, bias=False)
        nn.init.zeros_(self.head.weight)

    @property
    def multiple(self) -> int:
        """Pixels that sides are padded to multiples of."""
        return int(FINEST * 2 ** len(self.down))

    def forward(self, images: Tensor) -> Tensor:
        """Remove the noise of images [B, 3, H, W] in about [0, 1], not clamped."""
        padded = pad_to_multiple(images, self.multiple)
        x = self.stem(F.pixel_unshuffle(padded, FINEST))
        passed = []
        for blocks, down in zip(self.before, self.down, strict=False):
            x = blocks(x)
            passed.append(x)
            x = down(F.pixel_unshuffle(x, 2))
        x = self.before[-1](x)
        for blocks, up in zip(reversed(self.after), reversed(self.up), strict=True):
            x = blocks(passed.pop() + F.pixel_shuffle(up(x), 2))
        noise = F.pixel_shuffle(self.head(x), FINEST)
        return crop(padded - noise, (images.shape[-2], images.shape[-1]))


def coarse_noise(shape: torch.Size, factor: int, generator: torch.Generator) -> Tensor:
    """Generate unit normal noise [B, 3, H, W] of squares of `factor`² pixels, smoothly joined.

    Errors of a codec's images are as coarse as its latent's positions, unlike white noise.
    """
    small = (*shape[:2], *(-(-side // factor) for side in shape[2:]))
    noise = torch.randn(small, generator=generator)
    if factor == 1:
        return noise
    grown = F.interpolate(noise, scale_factor=factor, mode="bicubic")
    return crop(grown / grown.std(), (shape[2], shape[3]))

"""Fidelity of images to their references: PSNR and MS-SSIM, one number per image.

An image on disk has 8 bits a channel. These functions measure the tensors they are given; to
report numbers, give them values rounded to multiples of 1/255, as they are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

# Images of more than TILE² pixels (4 megapixels) are measured in tiles of at most this side.
TILE = 2048
SMALLEST_TILE = 512

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
TAPS, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
# The window must fit into the image at the coarsest scale.
MS_SSIM_SMALLEST_SIDE = (TAPS - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1

_BELL = tuple(math.exp(-((k - TAPS // 2) ** 2) / (2 * SIGMA**2)) for k in range(TAPS))
WINDOW = tuple(value / sum(_BELL) for value in _BELL)


def check_pair(images: Tensor, references: Tensor) -> None:
    """Raise ValueError unless both are float [B, 3, H, W] in [0, 1] of one shape."""
    if images.shape != references.shape:
        raise ValueError(
            f"images have shape {tuple(images.shape)} and references {tuple(references.shape)}; "
            "an image is measured against a reference of its own size"
        )
    check_images(images, "images")
    check_images(references, "references")


def check_images(images: Tensor, name: str) -> None:
    """Raise ValueError, which calls them `name`, unless they are float [B, 3, H, W] in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"{name} are {images.dtype} {tuple(images.shape)}; "
            "give floats of shape [B, 3, H, W] in [0, 1]"
        )
    if images.numel() == 0:
        raise ValueError(f"{name} have shape {tuple(images.shape)}; no side may be 0")
    low, high = (float(bound) for bound in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} range from {low:g} to {high:g}; give values in [0, 1] "
            "(clamp them, and divide 8-bit values by 255)"
        )


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio 10·log10(1 / (MSE + 1e-8)) over the three channels.

    The 1e-8 makes identical images 80 dB, the most this function gives.

    Args:
        images: float [B, 3, H, W] in [0, 1]; rounded to 8 bits to measure a file.
        references: the same shape, in [0, 1].

    Returns:
        float32 [B], in dB.

    Raises:
        ValueError: the shapes differ or values leave [0, 1].
    """
    check_pair(images, references)
    mse = tiled_mean(_mse, images, references, TILE)
    return -10 * torch.log10(mse + 1e-8)


def _mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of [B, 3, H, W] per image."""
    return F.mse_loss(x, y, reduction="none").mean(dim=(1, 2, 3))


def ms_ssim(images: Tensor, references: Tensor, tile: int = TILE) -> Tensor:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003), per image.

    Gaussian window of 11 taps and σ = 1.5 without padding, five scales, K = (0.01, 0.03), data
    range 1; computed per channel, then averaged over the three: the convention of the PyTorch
    package pytorch-msssim 1.0. (torchmetrics counts a reflected border at the coarsest scale and
    drops odd rows, which differs from this by up to some 1e-2 on strongly distorted images.)

    Above tile² pixels memory is bounded by measuring tiles (see `tiled_mean`): the result is then
    the area-weighted mean of the tiles' MS-SSIM.

    Args:
        images: float [B, 3, H, W] in [0, 1]; rounded to 8 bits to measure a file.
        references: the same shape, in [0, 1].
        tile: largest side of a tile in pixels, at least 512.

    Returns:
        float32 [B] in [0, 1]; NaN for every image where the short side is at most 160 px, too
        small for five scales: the measure is undefined there.

    Raises:
        ValueError: the shapes differ, values leave [0, 1], or `tile` is too small.
    """
    check_pair(images, references)
    if min(images.shape[-2:]) < MS_SSIM_SMALLEST_SIDE:
        return torch.full((len(images),), math.nan, device=images.device)
    return tiled_mean(_ms_ssim, images, references, tile)


def tiled_mean(
    metric: Callable[[Tensor, Tensor], Tensor], images: Tensor, references: Tensor, tile: int
) -> Tensor:
    """A metric on the whole images up to tile² pixels, else its area-weighted mean over tiles.

    Both sides are cut into as few parts as `tile` allows, as equal as whole pixels permit, so that
    no tile has a side under tile/2 unless the image itself has.

    Args:
        metric: two float32 [B, 3, h, w] to [B].
        images: float [B, 3, H, W].
        references: the same shape.
        tile: largest side of a tile in pixels, at least 512, so that tiles have 256 px a side.

    Returns:
        float32 [B].

    Raises:
        ValueError: `tile` is too small.
    """
    if tile < SMALLEST_TILE:
        raise ValueError(f"tile is {tile} px; it must be at least {SMALLEST_TILE}")
    height, width = images.shape[-2:]
    if height * width <= tile**2:
        return metric(images.float(), references.float())
    mean = torch.zeros(len(images), device=images.device)
    for top, bottom in pairwise(_cuts(height, tile)):
        for left, right in pairwise(_cuts(width, tile)):
            share = (bottom - top) * (right - left) / (height * width)
            x = images[..., top:bottom, left:right].float()
            y = references[..., top:bottom, left:right].float()
            mean = mean + share * metric(x, y)
    return mean


def _cuts(length: int, tile: int) -> list[int]:
    """Places to cut `length` pixels at, into the fewest parts of at most `tile`, ends included."""
    parts = -(-length // tile)
    return [length * k // parts for k in range(parts + 1)]


def _ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of float32 [B, 3, H, W], both sides at least 161 px, to [B]."""
    similarity = x.new_ones(x.shape[:2])
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale > 0:
            # An odd side gets one row or column of zeros in front, which the mean counts.
            odd = (x.shape[-2] % 2, x.shape[-1] % 2)
            x, y = F.avg_pool2d(x, 2, padding=odd), F.avg_pool2d(y, 2, padding=odd)
        luminance, contrast = _similarity_maps(x, y)
        last = scale == len(SCALE_WEIGHTS) - 1
        term = (luminance * contrast if last else contrast).mean(dim=(2, 3))
        similarity = similarity * term.clamp(min=0) ** weight
    return similarity.mean(dim=1)


def _similarity_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's luminance and contrast-structure terms at every window position, [B, 3, h, w] each."""
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) + _blur(y * y) - mean_x**2 - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * covariance + C2) / (variances + C2)


def _blur(x: Tensor) -> Tensor:
    """The Gaussian window at every position it fits into: [..., H, W] to [..., H - 10, W - 10]."""
    # Shifted sums, since convolutions on GPUs may round to TF32, too coarse for a variance.
    for dim in (-2, -1):
        length = x.shape[dim] - TAPS + 1
        out = WINDOW[0] * x.narrow(dim, 0, length)
        for k in range(1, TAPS):
            out.add_(x.narrow(dim, k, length), alpha=WINDOW[k])
        x = out
    return x

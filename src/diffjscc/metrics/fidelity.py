"""Fidelity of images to their references: PSNR and MS-SSIM, one number per image.

An image on disk has 8 bits a channel. These functions measure the tensors they are given; to
report numbers, give them values rounded to multiples of 1/255, as they are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.arrays import levels_to_floats
from diffjscc.metrics.references import Prepared
from diffjscc.progress import reported

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
    """Raise ValueError unless both are [B, 3, H, W] of one shape: float in [0, 1], or levels."""
    if images.shape != references.shape:
        raise ValueError(
            f"images have shape {tuple(images.shape)} and references {tuple(references.shape)}; "
            "an image is measured against a reference of its own size"
        )
    for batch, name in ((images, "images"), (references, "references")):
        # Levels against floats are taken for a mistake.
        levels = images.dtype == references.dtype == torch.uint8
        (_check_shape if levels else check_images)(batch, name)


def check_images(images: Tensor, name: str) -> None:
    """Raise ValueError, which calls them `name`, unless they are float [B, 3, H, W] in [0, 1]."""
    _check_shape(images, name)
    if not images.is_floating_point():
        raise ValueError(_kind(images, name))
    low, high = float(images.amin()), float(images.amax())  # aminmax would copy them
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} range from {low:g} to {high:g}; give values in [0, 1] "
            "(clamp them, and divide 8-bit values by 255)"
        )


def _check_shape(images: Tensor, name: str) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(_kind(images, name))
    if images.numel() == 0:
        raise ValueError(f"{name} have shape {tuple(images.shape)}; no side may be 0")


def _kind(images: Tensor, name: str) -> str:
    return (
        f"{name} are {images.dtype} {tuple(images.shape)}; give floats of shape [B, 3, H, W] in "
        "[0, 1]"
    )


def as_floats(images: Tensor) -> Tensor:
    """Convert images [B, 3, H, W], float in [0, 1] or 8-bit levels (uint8), to float32 in [0, 1].

    Levels take a quarter of the memory: large images are converted tile by tile.
    """
    return levels_to_floats(images) if images.dtype == torch.uint8 else images.float()


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio 10·log10(1 / (MSE + 1e-8)) over the three channels.

    The 1e-8 makes identical images 80 dB, the most this function gives.

    Args:
        images: see `as_floats`; rounded to 8 bits to measure a file.
        references: likewise, of the same shape.

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

    Above tile² pixels memory is bounded by measuring one channel after the other in overlapping
    bands of rows, with the same result to rounding.

    Args:
        images: see `as_floats`; rounded to 8 bits to measure a file.
        references: likewise, of the same shape.
        tile: side of the largest square that is measured in one piece, in pixels, at least 512.

    Returns:
        float32 [B] in [0, 1]; NaN for every image where the short side is at most 160 px, too
        small for five scales: the measure is undefined there.

    Raises:
        ValueError: the shapes differ, values leave [0, 1], or `tile` is too small.
    """
    check_pair(images, references)
    if min(images.shape[-2:]) < MS_SSIM_SMALLEST_SIDE:
        return torch.full((len(images),), math.nan, device=images.device)
    check_tile(tile)
    if images.shape[-2:].numel() <= tile**2:
        return _ms_ssim(as_floats(images), as_floats(references), tile**2)
    planes = [
        pair
        for image, reference in zip(images, references, strict=True)
        for pair in zip(image, reference, strict=True)
    ]
    values = [
        _ms_ssim(as_floats(x[None, None]), as_floats(y[None, None]), tile**2 // 4)
        for x, y in reported(planes, "measuring MS-SSIM")
    ]
    return torch.cat(values).view(len(images), -1).mean(dim=1)


def check_tile(tile: int) -> None:
    """Raise ValueError unless tiles of this side, in pixels, are large enough."""
    if tile < SMALLEST_TILE:
        raise ValueError(f"tile is {tile} px; it must be at least {SMALLEST_TILE}")


def tiled_mean(
    metric: Callable[[Tensor, Tensor], Tensor], images: Tensor, references: Tensor, tile: int
) -> Tensor:
    """A metric on the whole images up to tile² pixels, else its area-weighted mean over tiles.

    Both sides are cut into as few parts as `tile` allows, as equal as whole pixels permit, so that
    no tile has a side under tile/2 unless the image itself has.

    Args:
        metric: two float32 [B, 3, h, w] to [B].
        images: see `as_floats`.
        references: likewise, of the same shape.
        tile: largest side of a tile in pixels, at least 512, so that tiles have 256 px a side.

    Returns:
        float32 [B].

    Raises:
        ValueError: `tile` is too small.
    """
    check_tile(tile)
    height, width = images.shape[-2:]
    if height * width <= tile**2:
        return metric(as_floats(images), as_floats(references))
    mean = torch.zeros(len(images), device=images.device)
    for top, bottom in pairwise(_cuts(height, tile)):
        for left, right in pairwise(_cuts(width, tile)):
            share = (bottom - top) * (right - left) / (height * width)
            x = as_floats(images[..., top:bottom, left:right])
            y = as_floats(references[..., top:bottom, left:right])
            mean = mean + share * metric(x, y)
    return mean


def _cuts(length: int, tile: int) -> list[int]:
    """Places to cut `length` pixels at, into the fewest parts of at most `tile`, ends included."""
    parts = -(-length // tile)
    return [length * k // parts for k in range(parts + 1)]


def _ms_ssim(x: Tensor, y: Tensor, most: int) -> Tensor:
    """MS-SSIM of float32 [B, C, H, W], both sides at least 161 px, to [B].

    Maps of more than `most` pixels are computed in bands.
    """
    pairs = zip(_pyramid(x), _pyramid(y), strict=True)
    return _combined(_mean_term(x, y, scale, most) for scale, (x, y) in enumerate(pairs))


def _pyramid(images: Tensor) -> Iterator[Tensor]:
    """Yield images [B, C, H, W] at one scale after another, each half as large."""
    yield images
    for _ in SCALE_WEIGHTS[1:]:
        # An odd side gets one row or column of zeros in front, which the mean counts.
        odd = (images.shape[-2] % 2, images.shape[-1] % 2)
        images = F.avg_pool2d(images, 2, padding=odd)
        yield images


def _combined(terms: Iterable[Tensor]) -> Tensor:
    """Multiply the scales' terms [B, C], each to its weight, and average over channels, [B]."""
    similarity = torch.ones(())
    for term, weight in zip(terms, SCALE_WEIGHTS, strict=True):
        similarity = similarity.to(term.device) * term.clamp(min=0) ** weight
    return similarity.mean(dim=1)


def _mean_term(x: Tensor, y: Tensor, scale: int, most: int) -> Tensor:
    """The mean of a scale's contrast-structure term, with luminance at the last, [B, C]."""
    height, width = x.shape[-2:]
    windows = height - TAPS + 1
    band = windows if height * width <= most else max(1, most // (4 * width))
    mean = x.new_zeros(x.shape[:2])
    for top in range(0, windows, band):
        rows = min(band, windows - top)
        some = slice(top, top + rows + TAPS - 1)
        part = y[..., some, :]
        term = _term(x[..., some, :], part, *_moments(part), scale)
        if rows == windows:
            return term
        mean = mean + term * (rows / windows)
    return mean


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """First and second moment at every window position, [B, C, h, w] each."""
    return _blur(x), _blur(x * x)


def _term(x: Tensor, y: Tensor, mean_y: Tensor, square_y: Tensor, scale: int) -> Tensor:
    """SSIM's contrast-structure term, at the last scale times luminance, [B, C]."""
    mean_x, square_x = _moments(x)
    variances = square_x + square_y - mean_x**2 - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    term = (2 * covariance + C2) / (variances + C2)
    if scale == len(SCALE_WEIGHTS) - 1:
        term = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1) * term
    return term.mean(dim=(2, 3))


class MSSSIM:
    """`ms_ssim` as a metric that keeps what it computes of originals, see `PreparingMetric`."""

    def __call__(self, images: Tensor, references: Tensor) -> Tensor:
        """Measure images against references of any size."""
        return ms_ssim(images, references)

    def prepare(self, references: Tensor) -> Prepared:
        """Compute the pyramid of references [1, 3, H, W] of at least 161 px a side, and moments."""
        scales = ((y, *_moments(y)) for y in _pyramid(as_floats(references)))
        return tuple(tensor for scale in scales for tensor in scale)

    def against(self, images: Tensor, prepared: Prepared) -> Tensor:
        """Measure images against references that were prepared."""
        scales = enumerate(_pyramid(as_floats(images)))
        # Every scale has left its references and their two moments.
        return _combined(
            _term(x, prepared[3 * k], prepared[3 * k + 1], prepared[3 * k + 2], k)
            for k, x in scales
        )


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

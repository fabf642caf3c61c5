"""NIQE: naturalness of an image without a reference (Mittal, Soundararajan, Bovik, 2013).

Local statistics of an image's blocks are compared with those of pristine photographs. It measures
texture, not content: an image of something else may have the better value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.metrics.fidelity import TILE, as_floats, check_pair
from diffjscc.metrics.weights import WeightFile, check_hash, find_weights

PRISTINE = WeightFile(
    ("niqe_pris_params.npz",),
    "https://raw.githubusercontent.com/XPixelGroup/BasicSR/master/basicsr/metrics/"
    "niqe_pris_params.npz",
    "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
)
BLOCK = 96
BAND = 1 << 20  # pixels of a band of rows of blocks, of images of more than TILE² pixels

# BT.601, to more digits, as MATLAB's rgb2gray has it.
LUMA = (0.298936, 0.587043, 0.114021)
TAPS, SIGMA = 7, 7 / 6
_BELL = tuple(math.exp(-((k - TAPS // 2) ** 2) / (2 * SIGMA**2)) for k in range(TAPS))
WINDOW = tuple(value / sum(_BELL) for value in _BELL)
# Bicubic (a = -1/2), stretched by two against aliasing, at ±1/2, ±3/2, ±5/2 and ±7/2 pixels.
HALVING = tuple(tap / 256 for tap in (-3, -9, 29, 111, 111, 29, -9, -3))
# Rounding error of a flat neighbourhood's mean in float64; levels of 8 bits differ by far more.
ROUNDING = 1e-9
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
SHAPES = (0.2, 10.0, 9801)


@dataclass(frozen=True)
class Pristine:
    """Statistics of the block features of pristine photographs.

    Attributes:
        mean: float64 [36].
        covariance: float64 [36, 36].
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def load(cls, folder: Path | None = None) -> Pristine:
        """Load the published statistics; `find_weights` lists the places that are searched.

        Raises:
            MetricUnavailable: the file is missing and cannot be fetched, or is damaged.
        """
        (path,) = find_weights("NIQE", (PRISTINE,), folder)
        check_hash(path, PRISTINE)
        with np.load(path) as arrays:
            mean = torch.from_numpy(arrays["mu_pris_param"])
            covariance = torch.from_numpy(arrays["cov_pris_param"])
        return cls(mean[0], covariance)


@torch.no_grad()
def niqe(images: Tensor, pristine: Pristine) -> Tensor:
    """Distance of each image's block statistics from those of pristine photographs.

    √(dᵀ ((Σ + Σ')/2)⁺ d), with d the difference of mean features and Σ, Σ' the covariances; the
    features are 18 in each block of 96x96 pixels and 18 in the same block at half size. Follows
    the authors' MATLAB release: luma as rgb2gray gives it, rounded to 8 bits; blocks from the top
    left corner, whatever fills none at the right and bottom left out; half size as imresize gives
    it. It differs where an image is flat to the last bit: there rounding errors do not count as
    structure, and blocks without any, whose features are undefined, are left out.

    Args:
        images: see `as_floats`; above 2048² pixels memory is that of a band.
        pristine: statistics to compare with.

    Returns:
        float32 [B], on the device of `images`: about 3 for good photographs, more for distorted
        ones. NaN where fewer than two blocks with structure fit: no covariance is defined there.

    Raises:
        ValueError: `images` are no such images.
    """
    check_pair(images, images)
    # In float64 and one by one on the CPU, whatever the device, so that values agree.
    values = [_distance(image, pristine) for image in images.cpu()]
    return torch.tensor(values, device=images.device)


def _luma(image: Tensor) -> Tensor:
    """[3, H, W] in [0, 1], or levels, to float64 [H, W] of whole numbers 0..255."""
    red, green, blue = 255 * as_floats(image).double()
    luma: Tensor = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return luma.round()


def _distance(image: Tensor, pristine: Pristine) -> float:
    """`niqe` of one image [3, H, W]; large ones are measured in bands of blocks."""
    rows, columns = (length // BLOCK for length in image.shape[1:])
    if rows * columns < 2:
        return math.nan
    image = image[:, : rows * BLOCK, : columns * BLOCK]
    pixels = BLOCK * columns * BLOCK
    band = rows if rows * pixels <= TILE**2 else max(1, BAND // pixels)
    parts = [_block_features(image, top, min(top + band, rows)) for top in range(0, rows, band)]
    features = torch.cat(parts)
    features = features[features.isfinite().all(dim=1)]
    if len(features) < 2:
        return math.nan
    difference = features.mean(dim=0) - pristine.mean
    pooled = (features.T.cov() + pristine.covariance) / 2
    return math.sqrt(max(float(difference @ torch.linalg.pinv(pooled) @ difference), 0.0))


def _block_features(image: Tensor, first: int, last: int) -> Tensor:
    """36 features of each block in rows of blocks `first` to `last` of [3, H, W], [blocks, 36]."""
    found = []
    for side, rows_of in ((BLOCK, _luma_rows), (BLOCK // 2, _half_rows)):
        top, bottom = first * side, last * side
        low = max(top - TAPS // 2, 0)
        high = min(bottom + TAPS // 2, image.shape[1] // BLOCK * side)
        normalised = _normalise(rows_of(image, low, high), top - low, high - bottom)
        found.append(_features(normalised, side))
    return torch.cat(found, dim=1)


def _luma_rows(image: Tensor, low: int, high: int) -> Tensor:
    """Rows `low` to `high` of the luma of [3, H, W]."""
    return _luma(image[:, low:high])


def _half_rows(image: Tensor, low: int, high: int) -> Tensor:
    """Rows `low` to `high` of the luma at half size."""
    reach, height = len(HALVING) // 2 - 1, image.shape[1]
    start, stop = max(2 * low - reach, 0), min(2 * high + reach, height)
    return _halve(_luma(image[:, start:stop]), low == 0, 2 * high == height)


def _features(normalised: Tensor, side: int) -> Tensor:
    """18 features of each block [side, side] of [H, W], whose sides are multiples: [blocks, 18]."""
    blocks = normalised.unfold(0, side, side).unfold(1, side, side).reshape(-1, side, side)
    shape, left, right = _fit(blocks)
    features = [shape, (left + right) / 2]
    for shift in SHIFTS:
        # Products of neighbours; beyond a block's edge is its opposite edge.
        shape, left, right = _fit(blocks * blocks.roll(shift, dims=(1, 2)))
        ratio = torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
        features += [shape, (right - left) * ratio, left, right]
    return torch.stack(features, dim=1)


def _normalise(luma: Tensor, above: int, below: int) -> Tensor:
    """(x - μ)/(σ + 1) with local mean and deviation under the Gaussian window.

    Args:
        luma: [above + H + below, W].
        above: rows that are there for their neighbours alone; edges are repeated beyond them.
        below: likewise.

    Returns:
        [H, W].
    """
    reach = TAPS // 2
    padding = (reach, reach, reach - above, reach - below)
    padded = F.pad(luma[None, None], padding, mode="replicate")[0, 0]
    mean = _filter(padded, WINDOW)
    variance = _filter(padded.square(), WINDOW) - mean.square()
    difference = luma[above : len(luma) - below] - mean
    difference[difference.abs() < ROUNDING] = 0
    return difference / (variance.abs().sqrt() + 1)


def _fit(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit asymmetric generalised Gaussians by moments (Lasmar, Stitou, Berthoumieu, 2009).

    Args:
        values: float64 [blocks, h, w].

    Returns:
        Shape, left and right scale, [blocks] each; not finite where a block has no values on one
        side of 0.
    """
    values = values.flatten(1)
    squares = values.square()
    below, above = values < 0, values > 0
    left = ((squares * below).sum(dim=1) / below.sum(dim=1)).sqrt()
    right = ((squares * above).sum(dim=1) / above.sum(dim=1)).sqrt()
    skew = left / right
    ratio = values.abs().mean(dim=1).square() / squares.mean(dim=1)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew.square() + 1).square()
    grid, ratios = _shapes()
    upper = torch.searchsorted(ratios, ratio).clamp(1, len(grid) - 1)
    nearer = ratio - ratios[upper - 1] <= ratios[upper] - ratio
    shape = grid[torch.where(nearer, upper - 1, upper)]
    scale = torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)
    return shape, left * scale, right * scale


@cache
def _shapes() -> tuple[Tensor, Tensor]:
    """Shapes to choose from, and the ratio of squared mean to variance of each, which rises."""
    grid = torch.linspace(*SHAPES, dtype=torch.float64)
    one, two, three = (torch.lgamma(k / grid) for k in (1, 2, 3))
    return grid, torch.exp(2 * two - one - three)


def _halve(luma: Tensor, top: bool, bottom: bool) -> Tensor:
    """Bicubic, antialiased half size of [H, W]; edges are mirrored.

    Args:
        luma: rows and columns.
        top: whether the first row is the image's; otherwise three rows before it are needed.
        bottom: likewise.
    """
    reach = len(HALVING) // 2 - 1
    for dim, (start, end) in enumerate(((top, bottom), (True, True))):
        first = luma.narrow(dim, 0, reach).flip(dim)
        last = luma.narrow(dim, luma.shape[dim] - reach, reach).flip(dim)
        luma = torch.cat(((first,) if start else ()) + (luma,) + ((last,) if end else ()), dim)
    return _filter(luma, HALVING, step=2)


def _filter(padded: Tensor, taps: tuple[float, ...], step: int = 1) -> Tensor:
    """Filter [H, W] along both sides, wherever `taps` fit, at every `step`th position."""
    kernel = torch.tensor(taps, dtype=torch.float64)
    rows = F.conv2d(padded[None, None], kernel[None, None, :, None], stride=(step, 1))
    return F.conv2d(rows, kernel[None, None, None, :], stride=(1, step))[0, 0]

"""Distances of two sets of patches as distributions: Fréchet and kernel distance.

They depend on the names and contents of the blocks of features, not on the order of writing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffjscc.metrics.feature_store import FeatureFolder


def frechet_distance(real: FeatureFolder, other: FeatureFolder) -> float:
    """Squared Fréchet distance of the normal distributions with each set's mean and covariance.

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) (Heusel et al., 2017), from sums in float64, one block
    in memory at a time. Few patches give too large a distance: compare sets of equal size only.

    Args:
        real: features of original patches.
        other: features of the patches to compare with them.

    Returns:
        At least 0.

    Raises:
        ValueError: a set has fewer than 2 patches, or widths differ.
    """
    _common_width(real, other)
    return frechet_of_moments(*_moments(real), *_moments(other))


def frechet_of_moments(
    mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor
) -> float:
    """Squared Fréchet distance of two normal distributions.

    The trace of (Σ₁Σ₂)^½ is that of (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric, so that its eigenvalues
    are real.

    Args:
        mean: float64 [width].
        covariance: float64 [width, width].
        other_mean: of the other distribution, float64 [width].
        other_covariance: likewise, float64 [width, width].

    Returns:
        At least 0.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    apart = (mean - other_mean).square().sum()
    return max(float(apart + covariance.trace() + other_covariance.trace() - 2 * shared), 0.0)


def _moments(folder: FeatureFolder) -> tuple[Tensor, Tensor]:
    """Mean [width] and unbiased covariance [width, width] in float64, from a block at a time."""
    count = folder.count
    total = torch.zeros(folder.width, dtype=torch.float64)
    products = torch.zeros(folder.width, folder.width, dtype=torch.float64)
    for block in folder.blocks():
        features = block.double()
        total += features.sum(dim=0)
        products += features.T @ features
    mean = total / count
    return mean, (products - count * mean.outer(mean)) / (count - 1)


def kernel_distance(
    real: FeatureFolder, other: FeatureFolder, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y/width + 1)³.

    Bińkowski et al., 2018 (arXiv 1801.01401). Averaged over pairs of random subsets without
    replacement. A set of at most `size` patches is taken whole; if both are, there is one pair.

    Args:
        real: features of original patches.
        other: features of the patches to compare with them.
        subsets: number of pairs.
        size: patches in a subset.
        seed: of the subsets.

    Returns:
        Mean and standard deviation (0 for a single pair) over the pairs. The mean of equal
        distributions is 0 in expectation, so it may be negative.

    Raises:
        ValueError: a set has fewer than 2 patches, widths differ, or `subsets` or `size` is too
            small.
    """
    if subsets < 1 or size < 2:
        raise ValueError(
            f"subsets is {subsets} and size is {size}; take at least 1 subset of at least 2 patches"
        )
    _common_width(real, other)
    rng = np.random.default_rng(seed)
    whole = [
        folder.take(torch.arange(folder.count)) if folder.count <= size else None
        for folder in (real, other)
    ]
    if whole[0] is not None and whole[1] is not None:
        subsets = 1
    distances = []
    for _ in range(subsets):
        x, y = (
            _sample(folder, size, rng) if features is None else features
            for folder, features in zip((real, other), whole, strict=True)
        )
        distances.append(_squared_mmd(x.double(), y.double()))
    return float(np.mean(distances)), float(np.std(distances))


def _common_width(real: FeatureFolder, other: FeatureFolder) -> int:
    """Features per patch of both sets; raises ValueError where no distance is defined."""
    for folder in (real, other):
        if folder.count < 2:
            raise ValueError(
                f"{folder.path} holds features of {folder.count} patches; a distance between "
                "distributions needs at least 2"
            )
    if real.width != other.width:
        raise ValueError(
            f"{real.path} holds {real.width} features per patch and {other.path} {other.width}; "
            "take both with the same network"
        )
    return real.width


def _sample(folder: FeatureFolder, size: int, rng: np.random.Generator) -> Tensor:
    """`size` random patches of `folder`, none twice."""
    return folder.take(torch.from_numpy(rng.choice(folder.count, size, replace=False)))


def _squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate from [m, width] and [n, width]."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_of_pairs(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.trace()) / (len(a) * (len(a) - 1))

    return float(mean_of_pairs(x) + mean_of_pairs(y) - 2 * kernel(x, y).mean())

"""How far two sets of patches are apart as distributions: Fréchet and kernel distances.

Features lie on disk in blocks, so that sets may be larger than memory and several processes may
write one. Distances depend on the blocks' names and contents, not on the order of writing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from diffjscc.data.files import atomic_write


class FeatureFolder:
    """Features of many patches, in one .npy file a block.

    While an object of this class is in use, others may add blocks but not replace any.

    Attributes:
        path: the folder; made when the first block is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shapes: dict[str, tuple[int, int]] = {}

    def write(self, name: str, features: Tensor) -> None:
        """Write a block, atomically; one of the same name is replaced.

        Args:
            name: the block's key, of letters, digits and . _ + - only, such as "kodim01-0".
            features: float32 [N, width], finite, N at least 1.

        Raises:
            ValueError: `name` cannot be a key, or `features` are not as above.
            OSError: the file cannot be written; the text says why.
        """
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise ValueError(
                f'a block is named "{name}"; use letters, digits and . _ + -, the first of them a '
                "letter, digit or _"
            )
        if features.ndim != 2 or len(features) == 0 or features.dtype != torch.float32:
            raise ValueError(
                f'features of block "{name}" are {features.dtype} {tuple(features.shape)}; give '
                "float32 of shape [patches, width]"
            )
        if not bool(features.isfinite().all()):
            raise ValueError(
                f'features of block "{name}" hold NaN or infinite values; no distance is defined '
                "on them"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._file(name)) as temporary:
            np.save(temporary, features.cpu().numpy())
        self._shapes[name] = (features.shape[0], features.shape[1])

    def __contains__(self, name: str) -> bool:
        """Whether there is a block of that name."""
        return self._file(name).exists()

    def names(self) -> list[str]:
        """The blocks' names, sorted."""
        return sorted(
            file.stem for file in self.path.glob("*.npy") if not file.name.startswith(".")
        )

    @property
    def count(self) -> int:
        """Patches in all blocks."""
        return sum(self._shape(name)[0] for name in self.names())

    @property
    def width(self) -> int:
        """Features per patch.

        Raises:
            ValueError: there are no blocks, or blocks of different widths.
        """
        widths = {self._shape(name)[1]: name for name in self.names()}
        if not widths:
            raise ValueError(f"{self.path} holds no features; write some first")
        if len(widths) > 1:
            found = " and ".join(f"{width} ({name}.npy)" for width, name in widths.items())
            raise ValueError(
                f"{self.path} holds features of widths {found}; remove those of the wrong network"
            )
        return next(iter(widths))

    def blocks(self) -> Iterator[Tensor]:
        """Each block's features, float32 [N, width], in the order of names."""
        for name in self.names():
            yield torch.from_numpy(np.array(self._open(name)))

    def take(self, indices: Tensor) -> Tensor:
        """Rows by their number, counted through the blocks in the order of names.

        Args:
            indices: integers [n] in [0, count).

        Returns:
            float32 [n, width], in the order of `indices`; only the files needed are opened.

        Raises:
            IndexError: an index is out of range.
            ValueError: see `width`.
        """
        names = self.names()
        ends = torch.tensor(list(accumulate(self._shape(name)[0] for name in names)))
        rows = torch.empty(len(indices), self.width)
        if len(indices) > 0 and not 0 <= int(indices.min()) <= int(indices.max()) < int(ends[-1]):
            raise IndexError(
                f"patches {int(indices.min())} to {int(indices.max())} are asked for; "
                f"{self.path} holds numbers 0 to {int(ends[-1]) - 1}"
            )
        owners = torch.searchsorted(ends, indices, right=True)
        for owner in sorted(set(owners.tolist())):
            wanted = owners == owner
            features = self._open(names[owner])
            inside = indices[wanted] - (int(ends[owner]) - len(features))
            rows[wanted] = torch.from_numpy(features[inside.numpy()])
        return rows

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npy"

    def _shape(self, name: str) -> tuple[int, int]:
        """A block's patches and width; read from its file once."""
        if name not in self._shapes:
            patches, width = self._open(name).shape
            self._shapes[name] = (patches, width)
        return self._shapes[name]

    def _open(self, name: str) -> NDArray[np.float32]:
        """A block, mapped rather than read."""
        file = self._file(name)
        try:
            features: NDArray[np.float32] = np.load(file, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise ValueError(f"{file} holds no features ({error}); remove it") from error
        if features.ndim != 2 or features.dtype != np.float32:
            raise ValueError(
                f"{file} holds {features.dtype} {features.shape}, where features are float32 of "
                "shape (patches, width); remove it"
            )
        return features


class _Features(nn.Module):
    """Stands where torchmetrics has its network: the features are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: FeatureFolder, other: FeatureFolder) -> float:
    """Squared Fréchet distance of the normal distributions with each set's mean and covariance.

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) (Heusel et al., 2017), from sums in float64, one block
    in memory at a time. Few patches give too large a distance: compare sets of equal size only.

    Args:
        real: features of original patches.
        other: features of the patches to be judged.

    Returns:
        At least 0.

    Raises:
        ValueError: a set has fewer than 2 patches, or widths differ.
    """
    width = _common_width(real, other)
    # One process computes it, also where several run.
    metric = FrechetInceptionDistance(_Features(width), sync_on_compute=False)
    for folder, is_real in ((real, True), (other, False)):
        for block in folder.blocks():
            metric.update(block.double(), real=is_real)
    return max(float(metric.compute()), 0.0)


def kernel_distance(
    real: FeatureFolder, other: FeatureFolder, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y/width + 1)³.

    Bińkowski et al., 2018 (arXiv 1801.01401). Averaged over pairs of random subsets, drawn without
    replacement. Of a set of at most `size` patches all are taken; if that is so of both, there is
    one pair.

    Args:
        real: features of original patches.
        other: features of the patches to be judged.
        subsets: number of pairs.
        size: patches in a subset.
        seed: of the draws.

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
            _draw(folder, size, rng) if features is None else features
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


def _draw(folder: FeatureFolder, size: int, rng: np.random.Generator) -> Tensor:
    """`size` random rows of `folder`, no row twice."""
    return folder.take(torch.from_numpy(rng.choice(folder.count, size, replace=False)))


def _squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate from [m, width] and [n, width]."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_of_pairs(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.trace()) / (len(a) * (len(a) - 1))

    return float(mean_of_pairs(x) + mean_of_pairs(y) - 2 * kernel(x, y).mean())

"""Features of image patches on disk, in blocks that several processes may write.

Sets of features may be larger than memory. The order of writing does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
        """Return whether there is a block of that name."""
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
        """Look up features by patch number, counted through the blocks in the order of names.

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

"""Features of a sweep's pictures as they come, and distances between sets of them per cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffjscc.evaluation.distribution import FeatureFolder, frechet_distance, kernel_distance
from diffjscc.evaluation.features import FeatureNet, patches
from diffjscc.evaluation.plan import Point
from diffjscc.evaluation.results import Cell, Sent

PATCH = 256  # pixels a side, as in the paper


class Distances:
    """Features on the disk, of originals and of what each cell delivered.

    Args:
        nets: give the features.
        folder: of them.
        seed: decides the subsets of kernel distances.
        device: the networks' own.
    """

    def __init__(
        self, nets: Sequence[FeatureNet], folder: Path, seed: int, device: torch.device
    ) -> None:
        self.nets, self.folder, self.seed, self.device = nets, folder, seed, device
        self._latest: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, point: Point, index: int, repeat: int, final: Tensor, original: Tensor) -> None:
        """A transmission's final picture [3, H, W], and the original unless it is there."""
        for net in self.nets:
            originals = self._features(net)
            if f"{index}" not in originals:
                originals.write(f"{index}", self._extract(net, original))
            # Digital links deliver the same picture time after time.
            latest = self._latest.get(net.name)
            if latest is None or not torch.equal(latest[0], final):
                self._latest[net.name] = latest = final, self._extract(net, final)
            self._features(net, point).write(f"{index}-{repeat}", latest[1])

    def measure(self, point: Point) -> list[Cell]:
        """Distances of a cell, a network each."""
        cells = []
        for net in self.nets:
            originals, features = self._features(net), self._features(net, point)
            kernel, deviation = kernel_distance(originals, features, seed=self.seed)
            cells.append(
                Cell(
                    *point.cell,
                    features=net.name,
                    patches=features.count,
                    frechet=frechet_distance(originals, features),
                    kernel=kernel,
                    kernel_deviation=deviation,
                )
            )
        return cells

    def _extract(self, net: FeatureNet, picture: Tensor) -> Tensor:
        return net(patches(picture[None].to(self.device), PATCH)).cpu()

    def _features(self, net: FeatureNet, point: Point | None = None) -> FeatureFolder:
        """Features of a cell's pictures, or of the originals."""
        name = "originals" if point is None else str(point.index)
        return FeatureFolder(self.folder / net.name / name)


def check_patches(paths: Sequence[Path], sent: Sequence[Sent], cropped: bool) -> None:
    """See that distances can be measured, before hours are spent.

    Args:
        paths: of the pictures, for errors.
        sent: what is sent of them.
        cropped: whether that is a part.

    Raises:
        ValueError: a picture has no patch, or an only one has a single patch.
    """
    cut = ", cropped," if cropped else ""
    ways = "add pictures" if len(sent) == 1 else "leave it out"
    for path, picture in zip(paths, sent, strict=True):
        needed = "two patches" if len(sent) == 1 else "a patch"
        longest = PATCH + PATCH // 2 if len(sent) == 1 else PATCH
        if min(picture.size) < PATCH or max(picture.size) < longest:
            raise ValueError(
                f"{path}{cut} is {picture.width}x{picture.height}; distances between distributions "
                f"need {needed} of {PATCH}x{PATCH}: {ways}, or measure none (features=[])"
            )

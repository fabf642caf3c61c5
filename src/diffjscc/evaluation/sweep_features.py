"""Features of a sweep's images on disk, and distances of each operating point from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffjscc.evaluation.plan import PlannedPoint
from diffjscc.evaluation.records import PointDistances
from diffjscc.evaluation.results import ImageInfo
from diffjscc.metrics.distances import frechet_distance, kernel_distance
from diffjscc.metrics.feature_networks import FeatureNet, patches
from diffjscc.metrics.feature_store import FeatureFolder

PATCH = 256  # pixels a side, as in the paper


class SweepFeatures:
    """Features on the disk, of the originals and of the final images of each operating point.

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

    def add(
        self, point: PlannedPoint, index: int, repeat: int, final: Tensor, original: Tensor
    ) -> None:
        """Store a transmission's final image [3, H, W], and the original unless it is there."""
        for net in self.nets:
            originals = self._features(net)
            if f"{index}" not in originals:
                originals.write(f"{index}", self._extract(net, original))
            # Digital links deliver the same image time after time.
            latest = self._latest.get(net.name)
            if latest is None or not torch.equal(latest[0], final):
                self._latest[net.name] = latest = final, self._extract(net, final)
            self._features(net, point).write(f"{index}-{repeat}", latest[1])

    def measure(self, point: PlannedPoint) -> list[PointDistances]:
        """Compute the distances at an operating point, one per network."""
        found = []
        for net in self.nets:
            originals, features = self._features(net), self._features(net, point)
            kernel, deviation = kernel_distance(originals, features, seed=self.seed)
            found.append(
                PointDistances(
                    *point.point,
                    features=net.name,
                    patches=features.count,
                    frechet=frechet_distance(originals, features),
                    kernel=kernel,
                    kernel_deviation=deviation,
                )
            )
        return found

    def _extract(self, net: FeatureNet, image: Tensor) -> Tensor:
        return net(patches(image[None].to(self.device), PATCH)).cpu()

    def _features(self, net: FeatureNet, point: PlannedPoint | None = None) -> FeatureFolder:
        """Features of the final images at a point, or of the originals."""
        name = "originals" if point is None else str(point.index)
        return FeatureFolder(self.folder / net.name / name)


def check_patches(paths: Sequence[Path], images: Sequence[ImageInfo], cropped: bool) -> None:
    """Check that distances can be measured, before hours are spent.

    Args:
        paths: of the images, for errors.
        images: as they are sent.
        cropped: whether that is a part.

    Raises:
        ValueError: an image has no patch, or an only one has a single patch.
    """
    cut = ", cropped," if cropped else ""
    ways = "add images" if len(images) == 1 else "leave it out"
    for path, image in zip(paths, images, strict=True):
        needed = "two patches" if len(images) == 1 else "a patch"
        longest = PATCH + PATCH // 2 if len(images) == 1 else PATCH
        if min(image.size) < PATCH or max(image.size) < longest:
            raise ValueError(
                f"{path}{cut} is {image.width}x{image.height}; distances between distributions "
                f"need {needed} of {PATCH}x{PATCH}: {ways}, or measure none (features=[])"
            )

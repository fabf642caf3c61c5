"""Features of a sweep's images on disk, and distances of each operating point from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffjscc.evaluation.journal import Key
from diffjscc.evaluation.layout import point_name, safe_name
from diffjscc.evaluation.records import OperatingPoint, PointDistances
from diffjscc.evaluation.results import ImageInfo
from diffjscc.metrics.distances import frechet_distance, kernel_distance
from diffjscc.metrics.feature_networks import FeatureNet, patches_256
from diffjscc.metrics.feature_store import FeatureFolder

PATCH = 256  # pixels a side, as in the paper
_256 = "-256"  # end of the name of a folder of features of FID/256's patches alone


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
        self, point: OperatingPoint, image: str, repeat: int, final: Tensor, original: Tensor
    ) -> None:
        """Store a transmission's final image [3, H, W], and the original unless it is there."""
        block = safe_name(image)
        for net in self.nets:
            if block not in self._features(net):
                self._write(net, block, self._extract(net, original), original.shape)
            # Digital links deliver the same image time after time.
            latest = self._latest.get(net.name)
            if latest is None or not torch.equal(latest[0], final):
                self._latest[net.name] = latest = final, self._extract(net, final)
            self._write(net, f"{block}--{repeat}", latest[1], final.shape, point)

    def has(self, sent: Iterable[Key]) -> bool:
        """Return whether the features of transmissions are there."""
        names: dict[OperatingPoint, set[str]] = {}
        for key in sent:
            names.setdefault(key.point, set()).add(f"{safe_name(key.image)}--{key.repeat}")
        return all(
            blocks <= set(self._features(net, point).names())
            for point, blocks in names.items()
            for net in self.nets
        )

    def measure(self, point: OperatingPoint) -> list[PointDistances]:
        """Compute the distances at an operating point, one per network."""
        found = []
        for net in self.nets:
            originals, features = self._features(net), self._features(net, point)
            kernel, deviation = kernel_distance(originals, features, seed=self.seed)
            some = self._features(net, part=_256), self._features(net, point, _256)
            enough = min(folder.count for folder in some) > 1
            found.append(
                PointDistances(
                    *point,
                    features=net.name,
                    patches=features.count,
                    frechet=frechet_distance(originals, features),
                    kernel=kernel,
                    kernel_deviation=deviation,
                    biased=min(originals.count, features.count) <= net.width,
                    frechet_256=frechet_distance(*some) if enough else None,
                )
            )
        return found

    def _extract(self, net: FeatureNet, image: Tensor) -> Tensor:
        return net.of_image(image[None].to(self.device), PATCH).cpu()

    def _write(
        self,
        net: FeatureNet,
        block: str,
        features: Tensor,
        shape: torch.Size,
        point: OperatingPoint | None = None,
    ) -> None:
        """Write the features of an image [3, H, W]: first those of some patches, then of all."""
        chosen = features[patches_256(shape[-2], shape[-1], PATCH)]
        self._features(net, point, _256).write(block, chosen)
        self._features(net, point).write(block, features)

    def _features(
        self, net: FeatureNet, point: OperatingPoint | None = None, part: str = ""
    ) -> FeatureFolder:
        """Features of the final images at a point, or of the originals; `_256`: see there."""
        name = "originals" if point is None else point_name(point)
        return FeatureFolder(self.folder / net.name / f"{name}{part}")


def lacking_patches(paths: Sequence[Path], images: Sequence[ImageInfo], cropped: bool) -> str:
    """Return the reason why distances cannot be measured, or an empty text if they can.

    An image has no patch, or an only one has a single patch.

    Args:
        paths: of the images, for the reason.
        images: as they are sent.
        cropped: whether that is a part.
    """
    cut = ", cropped," if cropped else ""
    ways = "add images" if len(images) == 1 else "leave it out"
    for path, image in zip(paths, images, strict=True):
        needed = "two patches" if len(images) == 1 else "a patch"
        longest = PATCH + PATCH // 2 if len(images) == 1 else PATCH
        if min(image.size) < PATCH or max(image.size) < longest:
            return (
                f"{path}{cut} is {image.width}x{image.height}; distances between distributions "
                f"need {needed} of {PATCH}x{PATCH}: {ways} to have them"
            )
    return ""

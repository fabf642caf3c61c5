"""Networks that give features of image patches, whose distributions `distances` compares.

A distance on Inception features is a FID or a KID. One on SqueezeNet features is neither: it
orders receivers, but its numbers compare with no published ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from diffjscc.choices import FeatureName
from diffjscc.metrics.fidelity import check_images
from diffjscc.metrics.lpips import BACKBONES, load_features, squeezenet
from diffjscc.metrics.weights import (
    MetricUnavailable,
    WeightFile,
    check_hash,
    find_weights,
)

# Patches that go through a network together, for bounded memory.
BATCH = 32
# Patches of one image that go through SqueezeNet together: more leave a processor's cache.
ROW_BATCH = 8
STEM = 3  # layers of SqueezeNet without padding: 4 pixels per position and side, none at borders
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The network of the FID's authors (Heusel et al., 2017), as TorchScript.
INCEPTION = WeightFile(
    ("inception-2015-12-05.pt",),
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
    "inception-2015-12-05.pt",
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)


def patches(images: Tensor, side: int = 256) -> Tensor:
    """Square patches that overlap by half, on a grid from the top left corner.

    The step is side/2 both ways; what does not fill a patch at the right and bottom is left out.

    Args:
        images: [B, 3, H, W].
        side: of a patch, in pixels; even.

    Returns:
        [B·N, 3, side, side], image by image and row by row, with
        N = (1 + ⌊(H - side)/(side/2)⌋) (1 + ⌊(W - side)/(side/2)⌋): 15 of 768x512 pixels.

    Raises:
        ValueError: an image is smaller than a patch, `side` is odd or less than 2, or `images` are
            no batch of images.
    """
    _check_patches(images, side)
    step = side // 2
    grid = images.unfold(2, side, step).unfold(3, side, step)
    return grid.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1], side, side)


def _check_patches(images: Tensor, side: int) -> None:
    """Raise ValueError where images [B, 3, H, W] hold no `patches` of that side."""
    if side < 2 or side % 2 != 0:
        raise ValueError(f"side is {side}; patches overlap by half, so give an even side of 2 up")
    if images.ndim != 4:
        raise ValueError(f"images have shape {tuple(images.shape)}; give [B, 3, H, W]")
    height, width = images.shape[-2:]
    if min(height, width) < side:
        raise ValueError(
            f"an image of {width}x{height} pixels holds no patch of {side}x{side}; both sides "
            f"must be at least {side} (leave this image out, or take smaller patches)"
        )


def patches_256(height: int, width: int, side: int = 256) -> list[int]:
    """Numbers of the `patches` of one image that FID/256 is taken on.

    Mentzer et al., arXiv 2006.09965, appendix A.7: ⌊H/side⌋ ⌊W/side⌋ patches that do not overlap,
    and (⌊H/side⌋ - 1) (⌊W/side⌋ - 1) on a grid that begins at (side/2, side/2).
    """
    step = side // 2
    columns = 1 + (width - side) // step
    down, across = height // side, width // side
    aligned = [(2 * i, 2 * j) for i in range(down) for j in range(across)]
    shifted = [(2 * i + 1, 2 * j + 1) for i in range(down - 1) for j in range(across - 1)]
    return sorted(row * columns + column for row, column in (*aligned, *shifted))


class FeatureNet(Protocol):
    """Patches to features.

    Attributes:
        name: "squeezenet" or "inception".
        width: features per patch.
    """

    name: FeatureName
    width: int

    def __call__(self, patches: Tensor) -> Tensor:
        """Float [N, 3, h, w] in [0, 1] to float32 [N, width]."""
        ...

    def of_image(self, image: Tensor, side: int) -> Tensor:
        """Features float32 [N, width] of all `patches` of an image [1, 3, H, W] in [0, 1]."""
        ...


class SqueezeNetFeatures(nn.Module):
    """Mean over positions of the last features of SqueezeNet 1.1 (Iandola et al., 2016)."""

    name: FeatureName = "squeezenet"
    width = 512
    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = squeezenet()
        shift, scale = torch.tensor([IMAGENET_MEAN, IMAGENET_STD])
        self.register_buffer("shift", shift[:, None, None], persistent=False)
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, folder: Path | None = None) -> SqueezeNetFeatures:
        """With torchvision's ImageNet weights, which `find_weights` looks for.

        Raises:
            MetricUnavailable: the file is missing and cannot be fetched, or is damaged.
        """
        net = cls()
        (path,) = find_weights(
            "Fréchet distance (SqueezeNet)", (BACKBONES["squeeze"].weights,), folder
        )
        load_features(net.features, path)
        return net

    @torch.no_grad()
    def forward(self, patches: Tensor) -> Tensor:
        """Float [N, 3, h, w] in [0, 1], at least 17 px a side, to float32 [N, 512].

        Raises:
            ValueError: `patches` are no such images.
        """
        check_images(patches, "patches")
        inputs = (
            (_laid_out(batch) - self.shift) / self.scale for batch in torch.split(patches, BATCH)
        )
        return torch.cat([self.features(batch).mean(dim=(2, 3)) for batch in inputs])

    @torch.no_grad()
    def of_image(self, image: Tensor, side: int) -> Tensor:
        """Features of all `patches` of an image [1, 3, H, W] in [0, 1], float32 [N, 512].

        Overlapping patches share the first layers, which see no borders.

        Args:
            image: the image.
            side: of a patch, in pixels; a multiple of 8.

        Raises:
            ValueError: `image` is no such image, or `side` is no such number.
        """
        check_images(image, "images")
        _check_patches(image, side)
        if side < 24 or side % 8 != 0:
            raise ValueError(f"side is {side}; it must be a multiple of 8, and at least 24")
        rows, columns = ([*range(0, n - side + 1, side // 2)] for n in image.shape[-2:])
        found = []
        for top in rows:
            strip = (_laid_out(image[..., top : top + side, :]) - self.shift) / self.scale
            stem = self.features[:STEM](strip)
            parts = [stem[..., left // 4 : (left + side) // 4 - 1] for left in columns]
            found += [
                self.features[STEM:](torch.cat(parts[i : i + ROW_BATCH])).mean(dim=(2, 3))
                for i in range(0, len(parts), ROW_BATCH)
            ]
        return torch.cat(found)


def _laid_out(patches: Tensor) -> Tensor:
    """Float32, on a CPU with channels last: its convolutions are twice as fast."""
    layout = torch.channels_last if patches.device.type == "cpu" else torch.preserve_format
    return patches.float().contiguous(memory_format=layout)


class InceptionFeatures(nn.Module):
    """The pooled features of the Inception-v3 that FID is defined with; resizes to 299x299."""

    name: FeatureName = "inception"
    width = 2048

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.network = network

    @classmethod
    def load(cls, path: Path | None = None) -> InceptionFeatures:
        """The published network, checked before it is loaded, since TorchScript is code.

        Args:
            path: the file; None for wherever `find_weights` finds `INCEPTION` (96 MB).

        Raises:
            MetricUnavailable: the file is missing and cannot be fetched, or is not that file.
        """
        if path is None:
            (path,) = find_weights("FID", (INCEPTION,))
        elif not path.is_file():
            raise MetricUnavailable(
                f"{path} is no file; correct the path, or fetch {INCEPTION.url}"
            )
        check_hash(path, INCEPTION)
        network = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        return cls(network.eval())

    @torch.no_grad()
    def forward(self, patches: Tensor) -> Tensor:
        """Float [N, 3, h, w] in [0, 1], rounded here to 8 bits, to float32 [N, 2048].

        Raises:
            ValueError: `patches` are no such images.
        """
        check_images(patches, "patches")
        levels = patches.float().mul(255).round().to(torch.uint8)
        features = [
            self.network(batch, return_features=True) for batch in torch.split(levels, BATCH)
        ]
        return torch.cat(features).float()

    def of_image(self, image: Tensor, side: int) -> Tensor:
        """Features of all `patches` of an image [1, 3, H, W] in [0, 1], float32 [N, 2048]."""
        features: Tensor = self(patches(image, side))
        return features


FEATURE_NETWORKS: dict[FeatureName, type[SqueezeNetFeatures | InceptionFeatures]] = {
    "squeezenet": SqueezeNetFeatures,
    "inception": InceptionFeatures,
}

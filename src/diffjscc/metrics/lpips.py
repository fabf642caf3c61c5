"""LPIPS v0.1: learned perceptual image patch similarity (Zhang et al., CVPR 2018).

Features of a network trained on ImageNet, scaled to unit length at every position, are compared
in squared difference, weighted per channel, averaged over positions and summed over layers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.choices import LPIPSNet
from diffjscc.layers.tiling import spans
from diffjscc.metrics.fidelity import TILE, as_floats, check_pair, check_tile
from diffjscc.metrics.references import Prepared
from diffjscc.metrics.weights import WeightFile, fill, find_weights, read_state
from diffjscc.progress import reported

LARGE_MAP = 262_144  # positions of a map of features that is compared in bands
DEEPEST = 16  # pixels per position and side of the last features of every net
REACH = 128  # pixels to each side that a feature sees at most, a multiple of DEEPEST


@dataclass(frozen=True)
class Backbone:
    """A network whose features LPIPS compares.

    Attributes:
        build: makes its `features` layers, numbered as in torchvision.
        taps: LPIPS compares the features before each of these layers; the last is the end.
        strides: pixels per position and side of the features at each tap.
        channels: of the compared features.
        smallest_side: of an image, in pixels, that leaves something to compare at the end.
        weights: the layers' weights, torchvision's.
        heads: the channel weights, LPIPS's.
    """

    build: Callable[[], nn.Sequential]
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    smallest_side: int
    weights: WeightFile
    heads: WeightFile


class Fire(nn.Module):
    """SqueezeNet's block: 1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, 2·expanded, H, W]."""
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat((self.expand1x1(x), self.expand3x3(x)), dim=1))


def squeezenet() -> nn.Sequential:
    """The features of SqueezeNet 1.1 (Iandola et al., 2016), untrained; 0.72 M parameters."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)

    stem = (nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True), pool())
    half = (Fire(64, 16, 64), Fire(128, 16, 64), pool(), Fire(128, 32, 128), Fire(256, 32, 128))
    deep = (Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256))
    return nn.Sequential(*stem, *half, pool(), *deep)


def alexnet() -> nn.Sequential:
    """The features of AlexNet (Krizhevsky, 2014), untrained; 2.5 M parameters."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(3, stride=2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(3, stride=2)]
    for inputs, outputs in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def vgg16() -> nn.Sequential:
    """The features of VGG-16 (Simonyan and Zisserman, 2015), untrained; 14.7 M parameters."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if layers:
            layers.append(nn.MaxPool2d(2))
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
    return nn.Sequential(*layers)


_TORCHVISION = "https://download.pytorch.org/models/"
_LPIPS = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
)

BACKBONES: dict[LPIPSNet, Backbone] = {
    "squeeze": Backbone(
        build=squeezenet,
        taps=(2, 5, 8, 10, 11, 12, 13),
        strides=(2, 4, 8, 16, 16, 16, 16),
        channels=(64, 128, 256, 384, 384, 512, 512),
        smallest_side=17,
        weights=WeightFile(
            ("squeezenet1_1-b8a52dc0.pth", "squeezenet1_1_features_torchvision.pth"),
            f"{_TORCHVISION}squeezenet1_1-b8a52dc0.pth",
            "b8a52dc0",
        ),
        heads=WeightFile(
            ("lpips_v0.1_squeeze.pth", "squeeze.pth"),
            f"{_LPIPS}squeeze.pth",
            "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
        ),
    ),
    "alex": Backbone(
        build=alexnet,
        taps=(2, 5, 8, 10, 12),
        strides=(4, 8, 16, 16, 16),
        channels=(64, 192, 384, 256, 256),
        smallest_side=31,
        weights=WeightFile(
            ("alexnet-owt-7be5be79.pth", "alexnet_features_torchvision.pth"),
            f"{_TORCHVISION}alexnet-owt-7be5be79.pth",
            "7be5be79",
        ),
        heads=WeightFile(("lpips_v0.1_alex.pth", "alex.pth"), f"{_LPIPS}alex.pth", None),
    ),
    "vgg": Backbone(
        build=vgg16,
        taps=(4, 9, 16, 23, 30),
        strides=(1, 2, 4, 8, 16),
        channels=(64, 128, 256, 512, 512),
        smallest_side=16,
        weights=WeightFile(
            ("vgg16-397923af.pth", "vgg16_features_torchvision.pth"),
            f"{_TORCHVISION}vgg16-397923af.pth",
            "397923af",
        ),
        heads=WeightFile(("lpips_v0.1_vgg.pth", "vgg.pth"), f"{_LPIPS}vgg.pth", None),
    ),
}


class LPIPS(nn.Module):
    """Perceptual distance of images to their references: 0 when equal, about 0.7 at worst.

    `LPIPS.load` gives the published weights; the constructor alone gives an untrained network.
    Weights are frozen; gradients reach the images.

    Attributes:
        net: "squeeze", "alex" or "vgg".
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: LPIPSNet) -> None:
        super().__init__()
        if net not in BACKBONES:
            raise ValueError(f'net "{net}" is not one of {", ".join(BACKBONES)}')
        self.net = net
        backbone = BACKBONES[net]
        self.features = backbone.build()
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 1, bias=False) for c in backbone.channels)
        shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]])
        self.register_buffer("shift", shift[:, None, None], persistent=False)
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, net: LPIPSNet = "squeeze", folder: Path | None = None) -> LPIPS:
        """Load the published metric; `find_weights` lists the places that are searched.

        Raises:
            MetricUnavailable: a file is missing and cannot be fetched, or is damaged.
            ValueError: `net` is no net of LPIPS.
        """
        model = cls(net)
        backbone = BACKBONES[net]
        weights, heads = find_weights("LPIPS", (backbone.weights, backbone.heads), folder)
        load_features(model.features, weights)
        state = {
            re.sub(r"^lin(\d+)\.model\.1\.", r"\1.", key): value
            for key, value in read_state(heads).items()
        }
        fill(model.heads, state, heads)
        return model

    def forward(self, images: Tensor, references: Tensor, tile: int = TILE) -> Tensor:
        """Compute the distance of each image to its reference.

        Above tile² pixels memory is bounded by tiles that overlap as far as features see, with the
        same result to rounding. 2048² pixels in one piece take about 1.5 GB with "squeeze" and
        6 GB with "vgg", tiles a third.

        Args:
            images: see `as_floats`; rounded to 8 bits to measure a file.
            references: likewise, of the same shape.
            tile: side of the largest square that is compared in one piece, in pixels, at least 512.

        Returns:
            float32 [B]; NaN where the images' short side is under the net's smallest (17 px for
            "squeeze", 31 for "alex", 16 for "vgg").

        Raises:
            ValueError: the shapes differ, values leave [0, 1], or `tile` is too small.
        """
        check_pair(images, references)
        if min(images.shape[-2:]) < BACKBONES[self.net].smallest_side:
            return torch.full((len(images),), math.nan, device=images.device)
        check_tile(tile)
        if images.shape[-2:].numel() <= tile**2:
            return self.distance(_laid_out(images), _laid_out(references))
        return self._tiled_distance(images, references, tile // 2 // DEEPEST * DEEPEST)

    def _tiled_distance(self, images: Tensor, references: Tensor, tile: int) -> Tensor:
        """Compute the distance by tiles; each contributes the positions that are its own."""
        strides = BACKBONES[self.net].strides
        sums = [torch.zeros(len(images), device=images.device) for _ in strides]
        counts = [0] * len(strides)
        height, width = images.shape[-2:]
        tiles = list(product(spans(height, tile, REACH), spans(width, tile, REACH)))
        for (rows, own_rows), (columns, own_columns) in reported(tiles, "measuring LPIPS"):
            part = (..., rows, columns)
            features = self.taps(_laid_out(images[part]))
            others = self.taps(_laid_out(references[part]))
            for i, (x, y, head) in enumerate(zip(features, others, self.heads, strict=True)):
                own = (
                    ...,
                    _positions(own_rows, rows, strides[i]),
                    _positions(own_columns, columns, strides[i]),
                )
                number = x[own].shape[-2:].numel()
                if number:
                    sums[i] = sums[i] + number * _added(0.0, x[own], y[own], head)
                    counts[i] += number
        return torch.stack([s / n for s, n in zip(sums, counts, strict=True)]).sum(dim=0)

    def prepare(self, references: Tensor) -> Prepared:
        """Compute the features of references, of unit length, see `PreparingMetric`."""
        return tuple(_unit(features) for features in self.taps(_laid_out(references)))

    @torch.no_grad()
    def against(self, images: Tensor, prepared: Prepared) -> Tensor:
        """Compute `forward` to references that were prepared; no gradients reach the images."""
        total = torch.zeros((), device=self.scale.device)
        for x, y, head in zip(self.taps(_laid_out(images)), prepared, self.heads, strict=True):
            total = total + _weighted(_unit(x).sub_(y).square_(), head)
        return total

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """`forward` without checks or tiles: float32 [B, 3, H, W] of any values to [B]; a loss."""
        # Both images go layer by layer together, so that no earlier features are kept.
        return self.compare(self.taps(x), self.taps(y))

    def taps(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the features [B, C, h, w] of float32 images [B, 3, H, W] at one tap after another.

        They are computed as they are asked for.
        """
        x = (2 * images - 1 - self.shift) / self.scale
        start = 0
        for end in BACKBONES[self.net].taps:
            x = self.features[start:end](x)
            yield x
            start = end

    def compare(self, features: Iterable[Tensor], references: Iterable[Tensor]) -> Tensor:
        """Distance [B] of images of which all `taps` are given."""
        total = torch.zeros((), device=self.scale.device)
        for x, y, head in zip(features, references, self.heads, strict=True):
            total = _added(total, x, y, head)
        return total


def _added(total: Tensor | float, x: Tensor, y: Tensor, head: nn.Module) -> Tensor:
    """Add to `total` [B] the distance at one tap, of features [B, C, h, w]."""
    # Maps of large images are compared in bands of rows, to bound the memory.
    height, width = x.shape[-2:]
    band = height if height * width <= LARGE_MAP else max(1, LARGE_MAP // (4 * width))
    for top in range(0, height, band):
        rows = slice(top, min(top + band, height))
        difference = _unit(x[..., rows, :]) - _unit(y[..., rows, :])
        mean = _weighted(difference.square(), head)
        total = total + mean * ((rows.stop - rows.start) / height)
    assert isinstance(total, Tensor)
    return total


def _unit(features: Tensor) -> Tensor:
    """Features [B, C, h, w] of length 1 at every position."""
    return F.normalize(features, eps=1e-10)


def _weighted(squares: Tensor, head: nn.Module) -> Tensor:
    """Mean over positions of squares [B, C, h, w] under a head's weights, float32 [B]."""
    mean: Tensor = head(squares).mean(dim=(1, 2, 3)).float()
    return mean


def _laid_out(images: Tensor) -> Tensor:
    """Convert levels to floats, on a CPU with channels last: its convolutions are twice as fast."""
    floats = as_floats(images)
    if floats.device.type != "cpu":
        return floats
    return floats.contiguous(memory_format=torch.channels_last)


def _positions(own: slice, read: slice, stride: int) -> slice:
    """The positions of features that are a tile's own; those of the last one go to the end."""
    last = own.stop == read.stop - read.start
    return slice(own.start // stride, None if last else own.stop // stride)


def load_features(features: nn.Sequential, path: Path) -> None:
    """Fill a backbone from torchvision's file, whole or its `features` alone.

    Raises:
        MetricUnavailable: the file is damaged or another network's.
    """
    state = {
        key.removeprefix("features."): value
        for key, value in read_state(path).items()
        if not key.startswith("classifier.")
    }
    fill(features, state, path)

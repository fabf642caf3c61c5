"""Receiver with a generator of images as its prior: the latent whose image was sent is searched.

Erdemir, Tung, Dragotti, Gündüz, "Generative joint source-channel coding for semantic image
transmission", arXiv 2211.13772 (InverseJSCC): codec and channel are a known operator, the prior is
the range of a generator such as StyleGAN2, and the latent is found by gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.data.geometry import crop
from diffjscc.layers.block_means import pool, replicate
from diffjscc.protocols import Codec, Reconstruction
from diffjscc.refiners.likelihood import ChannelLikelihood, LikelihoodConfig
from diffjscc.symbols import Generators, Received

# Generated images that exceed the wanted size by fewer pixels a side are cropped, not resized.
PADDING = 64

# Perceptual distance [B] of images [B, 3, H, W] in [0, 1], differentiable.
Perceptual = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class ImageGenerator(Protocol):
    """A generator of images, such as a StyleGAN2 with latents in W+."""

    def latents(self, size: tuple[int, int], batch: int) -> Tensor:
        """Return latents [B, …] to start from, such as the mean one, for images of (H, W)."""
        ...

    def __call__(self, latents: Tensor) -> Tensor:
        """Generate images [B, 3, h, w] in about [0, 1], differentiably."""
        ...


@runtime_checkable
class InvertibleGenerator(ImageGenerator, Protocol):
    """A generator that comes with a trained encoder."""

    def invert(self, images: Tensor) -> Tensor:
        """Estimate latents of images [B, 3, H, W] in [0, 1]; the search starts there."""
        ...


@dataclass(frozen=True)
class GeneratorConfig:
    """Settings of `GeneratorInversion`.

    Attributes:
        iterations: gradient steps; with 0 the trained encoder's latents are final.
        learning_rate: of Adam, in units of the latent.
        mse: weight of the squared error of the image that the codec would make of the generated
            one, without noise, from the initial image.
        lpips: weight of their perceptual distance.
        likelihood: weight of the channel's likelihood, see `ChannelLikelihood`, per symbol.
        prior: weight of the latent's mean squared distance from its start.
        range_share: γ in [0, 1], share of the range-space part that is taken from the initial
            image: 0 leaves the generated image, 1 gives it the block means of the initial one.
        factor: side in pixels of those blocks.
    """

    iterations: int = 100
    learning_rate: float = 0.05
    mse: float = 1.0
    lpips: float = 0.1
    likelihood: float = 0.0
    prior: float = 0.0
    range_share: float = 0.0
    factor: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.iterations <= 100_000:
            raise ValueError(f"iterations is {self.iterations}; it must be 0 to 100,000")
        if not 0 < self.learning_rate <= 1e3:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")
        for name in ("mse", "lpips", "likelihood", "prior"):
            if not 0 <= getattr(self, name) <= 1e6:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 to 1e6")
        if not 0 <= self.range_share <= 1:
            raise ValueError(f"range_share is {self.range_share}; it must be 0 to 1")
        if not 2 <= self.factor <= 1024:
            raise ValueError(f"factor is {self.factor}; blocks have a side of 2 to 1024 pixels")


class GeneratorInversion:
    """InverseJSCC: the generated image that explains what was received.

    Generated images of another size are cropped if they exceed it a little, and else resized.

    Args:
        codec: of the transmitter, with both of its ends, differentiable.
        generator: the prior.
        config: settings.
        perceptual: distance that `GeneratorConfig.lpips` weighs; None leaves it out.

    Attributes:
        codec, generator, config, perceptual: as given; they may be replaced.
    """

    def __init__(
        self,
        codec: Codec,
        generator: ImageGenerator,
        config: GeneratorConfig | None = None,
        perceptual: Perceptual | None = None,
    ) -> None:
        self.codec, self.generator = codec, generator
        self.config, self.perceptual = config or GeneratorConfig(), perceptual

    @torch.no_grad()
    def refine(
        self, initial: Tensor, received: Received, generator: Generators = None
    ) -> Reconstruction:
        """See `Refiner.refine`; nothing is sampled.

        Raises:
            ValueError: the generator's images are no images, or not finite.
        """
        del generator
        size = (initial.shape[-2], initial.shape[-1])
        if isinstance(self.generator, InvertibleGenerator):
            start = self.generator.invert(initial)
        else:
            start = self.generator.latents(size, len(initial))
        found = self.search(start.detach().to(initial.device), initial, received)
        image = self.generated(found, size)
        if image.shape != initial.shape or not bool(torch.isfinite(image).all()):
            raise ValueError(
                f"{type(self.generator).__name__} generated {tuple(image.shape)}, or values that "
                f"are not finite; images {tuple(initial.shape)} are needed"
            )
        return Reconstruction(self.mixed(image, initial), initial)

    def generated(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Generate images [B, 3, H, W] of a size, in [0, 1]."""
        images = self.generator(latents)
        height, width = images.shape[-2:]
        if 0 <= height - size[0] < PADDING and 0 <= width - size[1] < PADDING:
            images = crop(images, size)
        else:
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        return images.clamp(0, 1)

    def search(self, start: Tensor, initial: Tensor, received: Received) -> Tensor:
        """Search latents from a start [B, …], by Adam."""
        size = (initial.shape[-2], initial.shape[-1])
        latents = start.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([latents], lr=self.config.learning_rate)
        with torch.enable_grad():
            for _ in range(self.config.iterations):
                loss = self.loss(self.generated(latents, size), initial, received)
                loss = loss + self.config.prior * (latents - start).square().flatten(1).mean(1)
                (latents.grad,) = torch.autograd.grad(loss.sum(), [latents])
                optimiser.step()
        return latents.detach()

    def loss(self, images: Tensor, initial: Tensor, received: Received) -> Tensor:
        """Compute the weighted distances [B] of generated images from what was received."""
        config, state = self.config, received.state
        total = images.new_zeros(len(images))
        if config.mse or (config.lpips and self.perceptual is not None):
            sent = self.codec.encode(images, state.at_transmitter, received.nominal_rate).values
            again = self.codec.decode(replace(received, values=state.gain * sent))
            total = total + config.mse * (again - initial).square().mean(dim=(1, 2, 3))
            if config.lpips and self.perceptual is not None:
                total = total + config.lpips * self.perceptual(again, initial)
        if config.likelihood:
            likelihood = ChannelLikelihood(self.codec, received, LikelihoodConfig())
            distance = likelihood.distance(images) / received.channel_uses
            total = total + config.likelihood * distance
        return total

    def mixed(self, images: Tensor, initial: Tensor) -> Tensor:
        """Give generated images a share of the block means of initial ones."""
        share, factor = self.config.range_share, self.config.factor
        if share == 0:
            return images
        lacking = pool(initial - images, factor)
        lacking = crop(replicate(lacking, factor), (images.shape[-2], images.shape[-1]))
        return (images + share * lacking).clamp(0, 1)

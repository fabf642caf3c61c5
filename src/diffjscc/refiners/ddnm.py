"""DDNM: a frozen prior alone, held to what was received by its range and null spaces.

Wang et al., arXiv 2212.00490, brought to wireless links by Yilmaz et al., arXiv 2309.15889: with A
the means of blocks of pixels, the receiver knows the range-space part A†ŷ of the image, and the
prior fills in the null space. The prior here lives in a latent space, so every step decodes its
estimate of the clean latent, corrects the image, and encodes it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from diffjscc.data.geometry import crop, pad_to_multiple
from diffjscc.layers.block_means import pool, replicate
from diffjscc.layers.tiling import blend_tiles
from diffjscc.refiners.devices import Placement
from diffjscc.refiners.guidance import NoiseSource
from diffjscc.refiners.latents import decode, encode
from diffjscc.refiners.prior import (
    check_generators,
    check_prediction,
    sample_groups,
    side_multiple,
    start_levels,
    text_context,
)
from diffjscc.refiners.sampling import Progress, SamplerConfig, paper_scheduler, sample
from diffjscc.refiners.text import TextFeatures
from diffjscc.refiners.vae import VAE
from diffjscc.scheme import Generators, Received, Reconstruction


@dataclass(frozen=True)
class DDNMConfig:
    """How `DDNM` paints.

    Attributes:
        sampler: sampler, steps and start; from pure noise by default, as published.
        factor: side of the blocks whose means were sent, in pixels; the codec's.
        first_t, last_t: the range-space part is replaced at time steps first_t ≥ t ≥ last_t.
        tile: latent cells per side; latents of more than `tile`² cells are worked on in tiles.
    """

    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    factor: int = 2
    first_t: int = 999
    last_t: int = 0
    tile: int = 128

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor is {self.factor}; blocks have a side of at least 2 pixels")
        if not 0 <= self.last_t <= self.first_t:
            raise ValueError(
                f"the range-space part is replaced from time step {self.first_t} to "
                f"{self.last_t}; give first_t ≥ last_t ≥ 0"
            )
        if self.tile < 8:
            raise ValueError(f"tile is {self.tile} latent cells; it must be at least 8")


def replace_range(images: Tensor, pooled: Tensor, factor: int) -> Tensor:
    """A†ŷ + (I - A†A)x: images with the block means that were received.

    The received means are taken as they are: noise in them is not told apart from the image, as
    the scaling of DDNM+ would. What the codec's decoder leaves of the channel's noise is neither
    white nor of a known power.

    Args:
        images: x, [B, 3, H, W], sides multiples of `factor`.
        pooled: ŷ, [B, 3, H/factor, W/factor].
        factor: side of a block.
    """
    return images + replicate(pooled - pool(images, factor), factor)


class DDNM:
    """The refiner of Yilmaz et al., arXiv 2309.15889, with a latent prior.

    It takes what a `PooledCodec` decodes, and nothing else was received: ŷ = A·(initial image).

    In a latent space the prior can fill in only what the means leave open. Where a latent cell
    holds fewer numbers than the means of its pixels (Stable Diffusion's VAE: 4 against 48, the
    bundled one: 16 against 192), little is left. With the bundled weights, draws differ by less
    than half a grey level, and are about what the VAE makes of A†ŷ. A `last_t` above 0 leaves the
    prior more and keeps the means less.

    Args:
        vae: images ↔ latents.
        unet: the prior.
        scheduler: the noise that the prior was trained with; Stable Diffusion's by default.
        text: text features for the prior's cross attention; the text is always empty. A prior
            that attends to text but has none reads a single zero instead.
        config: how to paint.
        progress: told (steps done, steps in all) while sampling.

    Attributes:
        config, progress: as given; they may be replaced.
        placement: where it computes.

    Raises:
        ValueError: the prior does not predict noise.
    """

    def __init__(
        self,
        vae: VAE,
        unet: UNet2DConditionModel,
        *,
        scheduler: DDPMScheduler | None = None,
        text: TextFeatures | None = None,
        config: DDNMConfig | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.vae = vae
        self.unet = unet
        self.scheduler = scheduler or paper_scheduler()
        self.text = text
        self.config = config or DDNMConfig()
        self.progress = progress
        self.placement = Placement(unet.device)
        check_prediction(self.scheduler)
        self._networks: list[nn.Module] = [vae, unet, *([] if text is None else [text.encoder])]
        for module in self._networks:
            module.requires_grad_(False).eval()

    def to(
        self,
        device: torch.device | str,
        dtype: torch.dtype | None = None,
        offload: bool = False,
    ) -> DDNM:
        """Choose where and how precisely to compute.

        Args:
            device: where.
            dtype: of the weights; by default bfloat16 on CUDA and float32 elsewhere.
            offload: keep the weights on the CPU but while they are needed: the text encoder
                first, prior and VAE together while sampling.

        Returns:
            This refiner.
        """
        self.placement = Placement(torch.device(device), offload)
        self.placement.settle(self._networks, dtype)
        return self

    @property
    def multiple(self) -> int:
        """Pixels that the sides of images must be multiples of: whole blocks and cells."""
        return math.lcm(side_multiple(self.vae, self.unet), self.config.factor)

    @property
    def sampler_name(self) -> str:
        """The sampler, such as "ddpm"."""
        return self.config.sampler.name

    @property
    def num_inference_steps(self) -> int:
        """Sampling steps from pure noise."""
        return self.config.sampler.num_inference_steps

    def refine(
        self, initial: Tensor, received: Received, generator: Generators = None
    ) -> Reconstruction:
        """See `Refiner.refine`; one sample per image, see `sample`."""
        return self.sample(initial, received, 1, generator)

    @torch.no_grad()
    def sample(
        self, initial: Tensor, received: Received, number: int, generator: Generators = None
    ) -> Reconstruction:
        """Sample several images that have the block means received.

        Args:
            initial: [B, 3, H, W] in [0, 1], constant in every block.
            received: what `initial` was decoded from; gives rate and effective SNR.
            number: samples N per image.
            generator: drives sampling: one, or B·N.

        Returns:
            B·N images, an image's samples one after the other.

        Raises:
            ValueError: the initial images are not constant in every block, or another number of
                generators.
        """
        rows = [i for i in range(len(initial)) for _ in range(number)]
        levels = [start_levels(self.config.sampler, received)[i] for i in rows]
        if not any(levels):
            return Reconstruction(initial[rows], initial[rows])
        check_generators(generator, len(rows))
        pooled = self.received_means(initial.to(self.placement.device))
        context = text_context(self.unet, self.text, [""] * len(rows), self.placement)
        with self.placement.holding(self.vae, self.unet):
            z = self._sample_all(pooled, rows, context, levels, generator)
            decoded = decode(self.vae, z, self.config.tile).clamp(0, 1)
        image = crop(decoded, (initial.shape[-2], initial.shape[-1])).to(initial.device)
        for place, i in enumerate(rows):
            if levels[place] == 0:
                image[place] = initial[i]
        return Reconstruction(image, initial[rows])

    def received_means(self, initial: Tensor) -> Tensor:
        """ŷ of initial images [B, 3, H, W], padded to what the networks' strides need.

        Raises:
            ValueError: the images are not constant in every block.
        """
        factor = self.config.factor
        pooled = pool(initial, factor)
        blocks = crop(replicate(pooled, factor), (initial.shape[-2], initial.shape[-1]))
        if not torch.allclose(blocks, initial, rtol=0, atol=1e-3):
            raise ValueError(
                f"the initial image is not constant in blocks of {factor}x{factor} pixels; DDNM "
                f"needs what a PooledCodec with the factor {factor} decodes"
            )
        return pad_to_multiple(pooled, self.multiple // factor)

    def predict_noise(self, z_t: Tensor, t: int, context: Tensor | None) -> Tensor:
        """Noise in a latent, float32 [B, C, h, w].

        Args:
            z_t: noisy latent [B, C, h, w].
            t: time step.
            context: text features [B, L, d] or None.
        """
        z_t = z_t.to(self.unet.dtype)

        def network(rows: slice, columns: slice) -> Tensor:
            (noise,) = self.unet(z_t[..., rows, columns], t, context, return_dict=False)
            predicted: Tensor = noise
            return predicted

        return blend_tiles(network, (z_t.shape[-2], z_t.shape[-1]), self.config.tile).float()

    def correct(self, clean: Tensor, t: int, pooled: Tensor) -> Tensor:
        """The estimate x̂₀ [B, C, h, w] at time step t, its image's range-space part replaced.

        Args:
            clean: x̂₀.
            t: time step.
            pooled: ŷ, [B, 3, H/factor, W/factor].
        """
        if not self.config.last_t <= t <= self.config.first_t:
            return clean
        images = decode(self.vae, clean, self.config.tile)
        corrected = replace_range(images, pooled, self.config.factor)
        return encode(self.vae, corrected, self.config.tile).mean

    def _sample_all(
        self,
        pooled: Tensor,
        rows: list[int],
        context: Tensor | None,
        levels: list[float],
        generator: Generators,
    ) -> Tensor:
        """Sample a latent for each of `rows`, which are images of `pooled`."""
        sampler, factor = self.config.sampler, self.config.factor
        initial = encode(self.vae, replicate(pooled, factor), self.config.tile).mean[rows]
        means = pooled[rows]

        def sample_group(
            group: list[int], noise: NoiseSource, begin: int, report: Progress
        ) -> Tensor:
            attended = None if context is None else context[group]
            return sample(
                lambda z, t: self.predict_noise(z, t, attended),
                self.scheduler,
                sampler,
                noise,
                initial=initial[group] if sampler.start == "initial" else None,
                begin=begin,
                correct=lambda clean, t: self.correct(clean, t, means[group]),
                progress=report,
            )

        return sample_groups(
            sample_group,
            tuple(initial.shape),
            levels,
            sampler,
            self.scheduler,
            generator,
            self.placement.device,
            self.progress,
        )

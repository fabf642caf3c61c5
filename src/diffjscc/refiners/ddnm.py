"""DDNM: sampling of a frozen prior, consistent with the received range-space part.

Wang et al., arXiv 2212.00490; for wireless links Yilmaz et al., arXiv 2309.15889. With A the means
of blocks of pixels, the receiver knows the range-space part A†ŷ of the image, and the prior
generates the null-space part. As the prior here is a latent one, every step decodes its estimate of
the clean latent, replaces the range-space part of the image, and encodes it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from diffjscc.data.geometry import crop, pad_to_multiple
from diffjscc.layers.block_means import pool, replicate
from diffjscc.layers.tiling import blend_tiles
from diffjscc.protocols import Reconstruction
from diffjscc.refiners.devices import Placement, Precision
from diffjscc.refiners.guidance import NoiseSource
from diffjscc.refiners.latents import decode, encode
from diffjscc.refiners.library import DDPMScheduler, UNet2DConditionModel
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
from diffjscc.symbols import Generators, Received

# More give the same metrics with a latent prior (10, 20 and 50 on Kodak's middles), and 100 take
# twenty times as long.
STEPS = 5


@dataclass(frozen=True)
class DDNMConfig:
    """Settings of `DDNM`.

    Attributes:
        sampler: sampler, number of steps and start; by default from pure noise, as published, in
            `STEPS` steps.
        factor: side in pixels of the blocks whose means were sent; that of the codec.
        first_t, last_t: the range-space part is replaced at time steps first_t ≥ t ≥ last_t.
        tile: side of a tile in latent positions; latents of more than `tile`² positions are
            processed in tiles.
    """

    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(num_inference_steps=STEPS))
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
            raise ValueError(f"tile is {self.tile} latent positions; it must be at least 8")


def replace_range(images: Tensor, pooled: Tensor, factor: int) -> Tensor:
    """Compute A†ŷ + (I - A†A)x: give images the received block means.

    Errors in the received means are not modelled, unlike in DDNM+: after the codec's decoder the
    channel noise is neither white nor of a known power.

    Args:
        images: x, [B, 3, H, W], sides multiples of `factor`.
        pooled: ŷ, [B, 3, H/factor, W/factor].
        factor: side of a block.
    """
    return images + replicate(pooled - pool(images, factor), factor)


class DDNM:
    """The refiner of Yilmaz et al., arXiv 2309.15889, with a latent prior.

    The initial image is the output of a `PooledCodec`: ŷ = A·(initial image).

    With a latent prior the null space is limited: where a latent position has fewer values than
    there are means of its pixels (Stable Diffusion's VAE: 4 against 48, the bundled one: 16 against
    192), little freedom is left. With the bundled weights, samples differ by less than half a grey
    level and are close to the VAE's reconstruction of A†ŷ. A `last_t` above 0 gives the prior more
    freedom, and the means are kept less exactly.

    Args:
        vae: VAE of the prior.
        unet: the prior.
        scheduler: noise schedule of the prior; Stable Diffusion's by default.
        text: text encoder for the prior's cross attention; the text is always empty. Without it, a
            prior with cross attention attends to a single zero vector.
        config: settings.
        progress: called with (steps done, steps in all) after every step, unless None.

    Attributes:
        config, progress: as given; they may be replaced.
        placement: device that computes.

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
        dtype: Precision = None,
        offload: bool = False,
    ) -> DDNM:
        """Choose device and precision.

        Args:
            device: device that computes.
            dtype: dtype of the weights; by default bfloat16 on CUDA and float32 elsewhere.
            offload: keep the weights on the CPU while they are not needed. The text encoder is
                moved first; prior and VAE are moved together for sampling.

        Returns:
            This refiner.
        """
        self.placement = Placement(torch.device(device), offload)
        self.placement.settle(self._networks, dtype)
        return self

    @property
    def multiple(self) -> int:
        """Pixels that image sides must be multiples of: whole blocks and latent positions."""
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
            ValueError: the initial images are not constant in every block, or there are neither
                one generator nor B·N.
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
        """Compute ŷ of initial images [B, 3, H, W], padded to multiples of the strides.

        Raises:
            ValueError: the images are not constant in every block.
        """
        factor = self.config.factor
        pooled = pool(initial, factor)
        blocks = crop(replicate(pooled, factor), (initial.shape[-2], initial.shape[-1]))
        if not torch.allclose(blocks, initial, rtol=0, atol=1e-3):
            raise ValueError(
                f"the initial image is not constant in blocks of {factor}x{factor} pixels; DDNM "
                f"needs the output of a PooledCodec with the factor {factor}"
            )
        return pad_to_multiple(pooled, self.multiple // factor)

    def predict_noise(self, z_t: Tensor, t: int, context: Tensor | None) -> Tensor:
        """Predict the noise in a latent, float32 [B, C, h, w].

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
        """Replace the range-space part of the image of an estimate x̂₀ [B, C, h, w].

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

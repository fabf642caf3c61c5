"""Refiner of the paper: sampling of a frozen latent diffusion prior with a control module.

Initial image → condition latent, caption, SNR → controlled sampling → decoding → colour fix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffjscc.arrays import check_range
from diffjscc.data.geometry import PaddedImages
from diffjscc.data.images import to_levels
from diffjscc.layers.banding import Bands
from diffjscc.layers.tiling import blend_tiles
from diffjscc.protocols import Codec, Reconstruction
from diffjscc.refiners.colour import FIXES
from diffjscc.refiners.conditions import Conditions, ReceiverNetworks
from diffjscc.refiners.finishing import (
    Targets,
    coloured_as,
    only_where_missing,
    with_detail,
    with_limited_texture,
)
from diffjscc.refiners.guidance import LatentGuidance, NoiseSource
from diffjscc.refiners.latents import decode, decode_bands, stride
from diffjscc.refiners.likelihood import ChannelLikelihood
from diffjscc.refiners.prior import bits_per_pixel, check_generators, sample_groups
from diffjscc.refiners.sampling import (
    Correct,
    Estimated,
    Progress,
    at_bits,
    sample,
    signal_powers,
)
from diffjscc.symbols import Generators, Received

# Pixels a side: the cost of the prior's attention grows with the fourth power of a tile's side.
LARGEST_TILE = 1024

# Called with a function that decodes the present estimate to images [B, 3, H, W] in [0, 1].
Preview = Callable[[Callable[[], Tensor]], None]


class ControlledDiffusion(ReceiverNetworks):
    """The refiner of DiffJSCC (Yang, Liu, Wang, Kim, arXiv 2404.17736).

    Args:
        vae: VAE of the prior.
        unet: the prior.
        control: a control module made for it.
        distilled: a second one, which samples where `SamplerConfig.distilled_steps` says so.
        scheduler: noise schedule of the prior; Stable Diffusion's by default.
        text: text encoder for the prior's cross attention. Without it, a prior with cross
            attention attends to a single zero vector.
        captioner: captions the initial images; without one the caption is empty.
        condition_encoder: encoder of the condition latent; the VAE's where it is None.
        config: settings.
        progress: called with (steps done, steps in all) after every step, unless None.

    Attributes:
        config, captioner, progress: as given; they may be replaced.
        codec: the transmitter's codec, which likelihood guidance encodes with; None without it.
        preview: called after every step, before `progress`, with a function that decodes the
            estimate of the images that are being sampled, unless None. Decoding is as slow as
            that of a final image, so it need not be called at every step.
        denoiser: prior and control modules.
        placement: device that computes.

    Raises:
        ValueError: the control module was made for another prior, or the prior does not predict
            noise.
    """

    codec: Codec | None = None
    preview: Preview | None = None

    @property
    def sampler_name(self) -> str:
        """The sampler, such as "ddpm"."""
        return self.config.sampler.name

    @property
    def num_inference_steps(self) -> int:
        """Sampling steps: of the distilled control module, or from pure noise."""
        sampler = self.config.sampler
        return sampler.distilled_steps or sampler.num_inference_steps

    def refine(
        self, initial: Tensor, received: Received, generator: Generators = None
    ) -> Reconstruction:
        """See `Refiner.refine`; one sample per image, see `sample`."""
        return self.sample(initial, received, 1, generator)

    def refine_to_levels(
        self, initial: Tensor, received: Received, generator: Generators = None
    ) -> Reconstruction:
        """See `LevelsRefiner.refine_to_levels`: bands of rows are rounded as they are decoded."""
        return self._sample(initial, received, 1, generator, _checked_levels)

    def sample(
        self, initial: Tensor, received: Received, number: int, generator: Generators = None
    ) -> Reconstruction:
        """Sample several images given what was received; condition and caption are computed once.

        Args:
            initial: [B, 3, H, W] in [0, 1].
            received: what `initial` was decoded from; gives rate and effective SNR.
            number: samples N per image.
            generator: drives sampling: one, or B·N.

        Returns:
            B·N images, an image's samples one after the other.

        Raises:
            ValueError: neither one generator nor B·N.
        """
        return self._sample(initial, received, number, generator, _unchanged)

    @torch.no_grad()
    def _sample(
        self,
        initial: Tensor,
        received: Received,
        number: int,
        generator: Generators,
        kept: Callable[[Tensor], Tensor],
    ) -> Reconstruction:
        """`sample`; `kept` converts bands of finished images to what is kept of them."""
        rows = [i for i in range(len(initial)) for _ in range(number)]
        # Nothing of the images' size is copied without need: 48 megapixels take 0.6 GB.
        repeated = initial if number == 1 else initial[rows]
        levels = self.start_levels(received)
        likelihood = self.likelihood(received)
        likelihood = None if likelihood is None else likelihood.select(rows)
        if not any(levels):
            image = repeated if likelihood is None else likelihood.improve_images(repeated)
            return Reconstruction(kept(image), repeated)
        check_generators(generator, len(rows))
        images = initial.to(self.placement.device)
        prepared = self.prepare(images)
        captions = self.captions(images, received.captions)
        fractions = [at_bits(self.config.detail, bits) for bits in bits_per_pixel(received)]
        with self.placement.holding(self.vae, self.condition_encoder):
            posterior = self.posterior(prepared) if self.needs_posterior(fractions) else None
            if posterior is not None and self.condition_encoder is None:
                latent = posterior.mean
            else:
                latent = self.condition(prepared)
            lost = None
            if likelihood is not None and posterior is not None and any(fractions):
                lost = self._lost(prepared, posterior.mean, fractions)
        conditions = Conditions(
            latent,
            self.usable_snr(received.snr_db.to(self.placement.device)),
            self.context(captions, len(images)),
            posterior,
            self.kept(received, latent),
            lost,
        )
        size = (initial.shape[-2], initial.shape[-1])
        targets = self.targets(prepared, size, received)
        targets = targets if number == 1 else targets.select(rows)
        with self.placement.holding(self.denoiser):
            deviations = self.decode_noise(received)
            z = self._sample_all(
                conditions.select(rows),
                [levels[i] for i in rows],
                [deviations[i] for i in rows],
                generator,
                likelihood,
                lambda some, latents: self._show(latents, some, targets),
            )
        with self.placement.holding(self.vae):
            decoded = decode_bands(self.vae, z, self.config.tile)
            if posterior is not None and any(fractions):
                own = decode_bands(self.vae, posterior.mean, self.config.tile)
                decoded = with_detail(decoded, own, prepared, fractions)
            last = kept if likelihood is None else _unchanged
            image = self._finish(decoded, targets, last).to(initial.device)
        for place, i in enumerate(rows):
            if levels[i] == 0:
                image[place] = last(initial[i])
        return Reconstruction(
            image=image if likelihood is None else kept(likelihood.improve_images(image)),
            initial=repeated,
            caption=None if captions is None else [captions[i] for i in rows],
        )

    def predict_noise(
        self,
        z_t: Tensor,
        t: int | Tensor,
        condition: Tensor,
        snr_db: Tensor,
        context: Tensor | None,
    ) -> Tensor:
        """Predict the noise in a latent, float32 [B, C, h, w].

        Args:
            z_t: noisy latent [B, C, h, w].
            t: time step, one for all images or int64 [B].
            condition: condition latent [B, C', h, w].
            snr_db: SNR in dB [B], within `snr_range_db`.
            context: text features [B, L, d] or None.
        """
        dtype, distilled = self.denoiser.unet.dtype, self.config.sampler.distilled_steps is not None
        if not isinstance(t, Tensor):
            t = torch.full((len(z_t),), t, device=z_t.device)
        z_t, condition = z_t.to(dtype), condition.to(dtype)

        def network(rows: slice, columns: slice) -> Tensor:
            window = (..., rows, columns)
            noise: Tensor = self.denoiser(
                z_t[window],
                t,
                condition[window],
                snr_db,
                context,
                control_scale=self.config.control_scale,
                guidance_scale=1.0 if distilled else self.config.control_guidance_scale,
                distilled=distilled,
            )
            return noise

        tile = min(self.config.tile, LARGEST_TILE // stride(self.vae))
        size = (z_t.shape[-2], z_t.shape[-1])
        return blend_tiles(network, size, tile, work="one step of sampling").float()

    def sample_latents(
        self,
        conditions: Conditions,
        noise: NoiseSource,
        *,
        correct: Correct | None = None,
        guidance_noise: NoiseSource | None = None,
        decode_noise: Sequence[float] = (),
        begin: int = 0,
        progress: Progress | None = None,
        estimated: Estimated | None = None,
    ) -> Tensor:
        """Sample latents, float32 [B, C, h, w], of images that start at the same step.

        Args:
            conditions: conditions of the B images.
            noise: see `sampling.sample`.
            correct: likewise.
            guidance_noise: noise source of `GuidanceConfig.target` "sample"; `noise` by default.
            decode_noise: standard deviation per image of the noise added to the sampled latent;
                empty for none.
            begin: number of time steps to skip.
            progress: see `sampling.sample`.
            estimated: likewise; the estimates keep what `conditions` keeps of sampling.

        Raises:
            ValueError: few steps are asked for that no control module was distilled to.
        """
        few, own = self.config.sampler.distilled_steps, self.denoiser.distilled_steps
        if few not in (None, own):
            has = "none" if own is None else f"one for {own}"
            raise ValueError(
                f"sampler.distilled_steps is {few}, but of distilled control modules there is {has}"
            )
        posterior, initial, guide = conditions.posterior, None, None
        if posterior is not None and self.config.sampler.start == "initial":
            initial = posterior.mean
        if posterior is not None and self.config.latent_guidance.scale > 0:
            guide = LatentGuidance(self.config.latent_guidance, posterior, guidance_noise or noise)
        z = sample(
            lambda z, t: self.predict_noise(
                z, t, conditions.latent, conditions.snr_db, conditions.context
            ),
            self.scheduler,
            self.config.sampler,
            noise,
            initial=initial,
            begin=begin,
            correct=correct,
            guide=guide,
            progress=progress,
            estimated=None if estimated is None else lambda z: estimated(conditions.mixed(z)),
        )
        if any(decode_noise):
            z = z + torch.tensor(decode_noise, device=z.device)[:, None, None, None] * noise()
        return conditions.mixed(z)

    def likelihood(self, received: Received) -> ChannelLikelihood | None:
        """Return the likelihood that guides sampling; None where guidance is disabled.

        Raises:
            ValueError: it is enabled, and there is no codec to encode with.
        """
        config = self.config.likelihood
        if config.scale == 0:
            return None
        if self.codec is None:
            raise ValueError(
                "likelihood guidance encodes with the transmitter's codec, and this receiver has "
                "none; set refiner.codec = scheme.codec"
            )
        return ChannelLikelihood(self.codec, received, config)

    def _correct(self, likelihood: ChannelLikelihood, conditions: Conditions) -> Correct:
        """Make the correction of estimates x̂₀ by the likelihood of the images that they give."""
        powers: list[float] = signal_powers(self.scheduler).tolist()
        size = likelihood.received.image_size

        def render(z: Tensor) -> Tensor:
            images = decode(self.vae, conditions.mixed(z), self.config.tile)
            images = images if conditions.lost is None else images + conditions.lost
            return self.restore_smoothly(images, size)

        def correct(clean: Tensor, t: int) -> Tensor:
            # Deviation of a latent of variance 1 that is seen with noise of variance (1 - ᾱ)/ᾱ.
            deviation = math.sqrt(1 - powers[t])
            with self.placement.holding(self.vae):
                return likelihood.improve(clean, render, deviation, likelihood.config.iterations)

        return correct

    def _lost(self, prepared: PaddedImages, mean: Tensor, fractions: list[float]) -> Tensor:
        """Compute the fractions of detail that finishing adds, see `DiffusionConfig.detail`."""
        own = decode(self.vae, mean, self.config.tile)
        return torch.tensor(fractions, device=own.device)[:, None, None, None] * (
            prepared.whole() - own
        )

    def _sample_all(
        self,
        conditions: Conditions,
        levels: list[float],
        deviations: list[float],
        generator: Generators,
        likelihood: ChannelLikelihood | None,
        show: Callable[[list[int], Tensor], None],
    ) -> Tensor:
        """Sample a latent per condition, see `sample_groups`; `show` gets rows and estimates."""
        batch, _, height, width = conditions.latent.shape

        def sample_group(
            rows: list[int], noise: NoiseSource, begin: int, report: Progress
        ) -> Tensor:
            own = conditions.select(rows)
            return self.sample_latents(
                own,
                noise,
                correct=None if likelihood is None else self._correct(likelihood.select(rows), own),
                decode_noise=[deviations[i] for i in rows],
                begin=begin,
                progress=report,
                estimated=lambda latents: show(rows, latents),
            )

        return sample_groups(
            sample_group,
            (batch, self.denoiser.unet.config.in_channels, height, width),
            levels,
            self.config.sampler,
            self.scheduler,
            generator,
            self.placement.device,
            self.progress,
        )

    def _show(self, latents: Tensor, rows: list[int], targets: Targets) -> None:
        """Offer a preview of some rows' latents; `targets` are those of all rows."""

        def decoded() -> Tensor:
            with self.placement.holding(self.vae):
                bands = decode_bands(self.vae, latents, self.config.tile)
                return self._finish(bands, targets.select(rows), _unchanged)

        if self.preview is not None:
            self.preview(decoded)

    def _finish(self, decoded: Bands, targets: Targets, kept: Callable[[Tensor], Tensor]) -> Tensor:
        """Give decoded images what they are to have, and their size; `kept` as for `_sample`."""
        config, prepared, texture = self.config, targets.prepared, targets.texture
        decoded = coloured_as(decoded, prepared, FIXES[config.colour_fix])
        if texture is not None and config.texture_margin is not None:
            decoded = with_limited_texture(decoded, texture + config.texture_margin)
        if texture is not None and config.missing_span is not None:
            decoded = only_where_missing(decoded, prepared, texture, config.missing_span)
        finished = (band.clamp_(0, 1) for band in decoded)
        if self.config.geometry == "released":  # which resizes whole images
            return kept(self.restore(finished, targets.size))
        return self.restore((kept(band) for band in finished), targets.size)


def _checked_levels(images: Tensor) -> Tensor:
    """Round images [..., 3, r, W] to 8-bit levels; raise ValueError if values are not finite."""
    check_range(images, "images that ControlledDiffusion gave")
    return to_levels(images)


def _unchanged(images: Tensor) -> Tensor:
    return images

"""Refiner of the paper: sampling of a frozen latent diffusion prior with a control module.

Initial image → condition latent, caption, SNR → controlled sampling → decoding → colour fix.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from diffjscc.arrays import check_range
from diffjscc.data.geometry import PaddedImages, released_prepare, released_restore
from diffjscc.data.images import to_levels
from diffjscc.layers.banding import Bands, collect
from diffjscc.layers.tiling import blend_tiles
from diffjscc.refiners.captions import Captioner
from diffjscc.refiners.colour import FIXES
from diffjscc.refiners.conditions import Conditions
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.control import ControlModule, Denoiser
from diffjscc.refiners.devices import Placement, Precision
from diffjscc.refiners.finishing import coloured_as, with_detail
from diffjscc.refiners.guidance import LatentGuidance, NoiseSource
from diffjscc.refiners.latents import ConditionEncoder, Posterior, decode_bands, encode, stride
from diffjscc.refiners.library import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffjscc.refiners.prior import (
    bits_per_pixel,
    check_generators,
    check_prediction,
    sample_groups,
    side_multiple,
    text_context,
)
from diffjscc.refiners.sampling import Estimated, Progress, at_bits, paper_scheduler, sample
from diffjscc.refiners.text import TextFeatures
from diffjscc.refiners.texture import fit_share, kept_share
from diffjscc.scheme import Reconstruction
from diffjscc.symbols import Generators, Received

# Pixels a side: the cost of the prior's attention grows with the fourth power of a tile's side.
LARGEST_TILE = 1024

# Called with a function that decodes the present estimate to images [B, 3, H, W] in [0, 1].
Preview = Callable[[Callable[[], Tensor]], None]


class ControlledDiffusion:
    """The refiner of DiffJSCC (Yang, Liu, Wang, Kim, arXiv 2404.17736).

    Args:
        vae: VAE of the prior.
        unet: the prior.
        control: a control module made for it.
        scheduler: noise schedule of the prior; Stable Diffusion's by default.
        text: text encoder for the prior's cross attention. Without it, a prior with cross
            attention attends to a single zero vector.
        captioner: captions the initial images; without one the caption is empty.
        condition_encoder: encoder of the condition latent; the VAE's where it is None.
        config: settings.
        progress: called with (steps done, steps in all) after every step, unless None.

    Attributes:
        config, captioner, progress: as given; they may be replaced.
        preview: called after every step, before `progress`, with a function that decodes the
            estimate of the images that are being sampled, unless None. Decoding is as slow as
            that of a final image, so it need not be called at every step.
        denoiser: prior and control module.
        placement: device that computes.

    Raises:
        ValueError: the control module was made for another prior, or the prior does not predict
            noise.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        control: ControlModule,
        *,
        scheduler: DDPMScheduler | None = None,
        text: TextFeatures | None = None,
        captioner: Captioner | None = None,
        condition_encoder: ConditionEncoder | None = None,
        config: DiffusionConfig | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.vae = vae
        self.denoiser = Denoiser(unet, control)
        self.scheduler = scheduler or paper_scheduler()
        self.text = text
        self.captioner = captioner
        self.condition_encoder = condition_encoder
        self.config = config or DiffusionConfig()
        self.progress = progress
        self.preview: Preview | None = None
        self.placement = Placement(unet.device)
        check_prediction(self.scheduler)
        text_encoder = None if text is None else text.encoder
        frozen = [m for m in (vae, unet, condition_encoder, text_encoder) if m is not None]
        for module in frozen:
            module.requires_grad_(False)
        self._networks: list[nn.Module] = [*frozen, control]
        for module in self._networks:
            module.eval()

    def to(
        self,
        device: torch.device | str,
        dtype: Precision = None,
        offload: bool = False,
    ) -> ControlledDiffusion:
        """Choose device and precision.

        Args:
            device: device that computes.
            dtype: dtype of the weights; by default bfloat16 on CUDA and float32 elsewhere.
            offload: keep the weights on the CPU and move each network to `device` only while
                it is needed, for GPUs with little memory.

        Returns:
            This refiner.
        """
        self.placement = Placement(torch.device(device), offload)
        self.placement.settle(self._networks, dtype)
        return self

    @property
    def snr_range_db(self) -> tuple[float, float]:
        """SNR range of the control module's training in dB, (low, high)."""
        low, high = self.denoiser.control.config.snr_range_db
        return low, high

    @property
    def multiple(self) -> int:
        """Pixels that image sides must be multiples of."""
        return side_multiple(self.vae, self.denoiser.unet)

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
        return self._sample(initial, received, number, generator, lambda images: images)

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
        if not any(levels):
            return Reconstruction(kept(repeated), repeated)
        check_generators(generator, len(rows))
        images = initial.to(self.placement.device)
        prepared = self.prepare(images)
        captions = self.captions(images, received.captions)
        fractions = [at_bits(self.config.detail, bits) for bits in bits_per_pixel(received)]
        with self.placement.holding(self.vae, self.condition_encoder):
            needed = self._needs_posterior or any(fractions)
            posterior = self.posterior(prepared) if needed else None
            if posterior is not None and self.condition_encoder is None:
                latent = posterior.mean
            else:
                latent = self.condition(prepared)
        conditions = Conditions(
            latent,
            self.usable_snr(received.snr_db.to(self.placement.device)),
            self.context(captions, len(images)),
            posterior,
            self.kept(received, latent),
        )
        size = (initial.shape[-2], initial.shape[-1])
        reference = prepared if number == 1 else replace(prepared, images=prepared.images[rows])
        with self.placement.holding(self.denoiser):
            deviations = self.decode_noise(received)
            z = self._sample_all(
                conditions.select(rows),
                [levels[i] for i in rows],
                [deviations[i] for i in rows],
                generator,
                lambda some, latents: self._show(latents, some, reference, size),
            )
        with self.placement.holding(self.vae):
            decoded = decode_bands(self.vae, z, self.config.tile)
            if posterior is not None and any(fractions):
                own = decode_bands(self.vae, posterior.mean, self.config.tile)
                decoded = with_detail(decoded, own, prepared, fractions)
            image = self._finish(decoded, reference, size, kept).to(initial.device)
        for place, i in enumerate(rows):
            if levels[i] == 0:
                image[place] = kept(initial[i])
        return Reconstruction(
            image=image,
            initial=repeated,
            caption=None if captions is None else [captions[i] for i in rows],
        )

    def prepare(self, images: Tensor) -> PaddedImages:
        """Pad or enlarge images [B, 3, H, W] to a size that the networks accept."""
        if self.config.geometry == "released":
            images = torch.stack([released_prepare(x, multiple=self.multiple) for x in images])
        return PaddedImages(images, self.multiple)

    def restore(self, bands: Bands, size: tuple[int, int]) -> Tensor:
        """Undo `prepare`: join bands of rows, and crop or resize the images to size (H, W)."""
        if self.config.geometry == "released":
            images = torch.cat(list(bands), dim=-2)
            return torch.stack([released_restore(x, size) for x in images])
        return collect(bands, *size)

    def start_levels(self, received: Received) -> list[float]:
        """Compute the start level of each image; see `SamplerConfig` and `strength`."""
        return [self.config.start_level(bits) for bits in bits_per_pixel(received)]

    def decode_noise(self, received: Received) -> list[float]:
        """Compute the `decode_noise` of each image; see `DiffusionConfig`."""
        return [at_bits(self.config.decode_noise, bits) for bits in bits_per_pixel(received)]

    def kept(self, received: Received, latent: Tensor) -> Tensor | None:
        """Compute the share of sampling that positions of `latent` [B, C, h, w] keep, if not all.

        See `DiffusionConfig.texture_span`.
        """
        span = self.config.texture_span
        if span is None or received.texture is None:
            return None
        share = kept_share(received.texture.to(latent.device), span, stride(self.vae))
        return fit_share(share, (latent.shape[-2], latent.shape[-1]))

    def usable_snr(self, snr_db: Tensor) -> Tensor:
        """Clamp SNRs [B] in dB to the range of training if `clamp_snr`; warn if one is outside."""
        low, high = self.snr_range_db
        clamped = snr_db.clamp(low, high)
        if bool((clamped != snr_db).any()):
            taken = "clamped to that range" if self.config.clamp_snr else "used as it is"
            # The text has no value in it, so that Python shows it once and not for every fade.
            warnings.warn(
                f"an effective SNR is outside the range of {low:g} to {high:g} dB that the control "
                f"module was trained for; it is {taken}",
                stacklevel=3,
            )
        return clamped if self.config.clamp_snr else snr_db

    def captions(
        self, images: Tensor, sent: Sequence[str | None] | None = None
    ) -> list[str] | None:
        """Return the captions that were sent, or caption images [B, 3, H, W]; None without either.

        Args:
            images: initial images.
            sent: a caption of each from the transmitter; None where there is none, or all are lost.

        Raises:
            ValueError: the prior has no text encoder.
        """
        if self.captioner is None and sent is None:
            return None
        if self.text is None:
            raise ValueError(
                "captions are sent or a captioner is set, but this prior has no text encoder; "
                "remove them"
            )
        known = [None] * len(images) if sent is None else list(sent)
        own: list[str] = [""] * len(images)
        if self.captioner is not None and None in known:
            with self.placement.holding(self.captioner.module):
                own = self.captioner(images)
        return [seen if text is None else text for text, seen in zip(known, own, strict=True)]

    def context(self, captions: list[str] | None, batch: int) -> Tensor | None:
        """Encode captions as [B, L, d]; None for a prior without cross attention."""
        texts = [""] * batch if captions is None else captions
        return text_context(self.denoiser.unet, self.text, texts, self.placement)

    def condition(self, images: Tensor | PaddedImages) -> Tensor:
        """Encode prepared images [B, 3, H, W] as the condition latent f_s, float32 [B, C, h, w]."""
        encoder = self.vae if self.condition_encoder is None else self.condition_encoder
        return encode(encoder, images, self.config.tile).mean

    def posterior(self, images: Tensor | PaddedImages) -> Posterior:
        """Compute the VAE's posterior of prepared images [B, 3, H, W]."""
        return encode(self.vae, images, self.config.tile)

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
        dtype = self.denoiser.unet.dtype
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
                guidance_scale=self.config.control_guidance_scale,
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
            guidance_noise: noise source of `GuidanceConfig.target` "sample"; `noise` by default.
            decode_noise: standard deviation per image of the noise added to the sampled latent;
                empty for none.
            begin: number of time steps to skip.
            progress: see `sampling.sample`.
            estimated: likewise; the estimates keep what `conditions` keeps of sampling.
        """
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
            guide=guide,
            progress=progress,
            estimated=None if estimated is None else lambda z: estimated(_kept(conditions, z)),
        )
        if any(decode_noise):
            z = z + torch.tensor(decode_noise, device=z.device)[:, None, None, None] * noise()
        return _kept(conditions, z)

    @property
    def _needs_posterior(self) -> bool:
        config = self.config
        return (
            config.sampler.start == "initial"
            or config.latent_guidance.scale > 0
            or config.texture_span is not None
        )

    def _sample_all(
        self,
        conditions: Conditions,
        levels: list[float],
        deviations: list[float],
        generator: Generators,
        show: Callable[[list[int], Tensor], None],
    ) -> Tensor:
        """Sample a latent per condition, see `sample_groups`; `show` gets rows and estimates."""
        batch, _, height, width = conditions.latent.shape

        def sample_group(
            rows: list[int], noise: NoiseSource, begin: int, report: Progress
        ) -> Tensor:
            return self.sample_latents(
                conditions.select(rows),
                noise,
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

    def _show(
        self, latents: Tensor, rows: list[int], reference: PaddedImages, size: tuple[int, int]
    ) -> None:
        """Offer a preview of some rows' latents; `reference` and `size` as for `_finish`."""

        def decoded() -> Tensor:
            with self.placement.holding(self.vae):
                bands = decode_bands(self.vae, latents, self.config.tile)
                some = replace(reference, images=reference.images[rows])
                return self._finish(bands, some, size, lambda images: images)

        if self.preview is not None:
            self.preview(decoded)

    def _finish(
        self,
        decoded: Bands,
        reference: PaddedImages,
        size: tuple[int, int],
        kept: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Give decoded images the colours of the prepared ones, and their size (H, W)."""
        coloured = coloured_as(decoded, reference, FIXES[self.config.colour_fix])
        finished = (band.clamp_(0, 1) for band in coloured)
        if self.config.geometry == "released":  # which resizes whole images
            return kept(self.restore(finished, size))
        return self.restore((kept(band) for band in finished), size)


def _checked_levels(images: Tensor) -> Tensor:
    """Round images [..., 3, r, W] to 8-bit levels; raise ValueError if values are not finite."""
    check_range(images, "images that ControlledDiffusion gave")
    return to_levels(images)


def _kept(conditions: Conditions, z: Tensor) -> Tensor:
    """Mix sampled latents with the initial image's where it keeps a share only."""
    if conditions.posterior is None or conditions.kept is None:
        return z
    mean = conditions.posterior.mean
    return mean + conditions.kept * (z - mean)

"""The paper's refiner: a frozen latent diffusion prior, steered by a control module.

Initial picture → condition latent, caption, SNR → controlled sampling → picture → its colours.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from diffjscc.data.geometry import crop, pad_to_multiple, released_prepare, released_restore
from diffjscc.refiners.captions import Captioner
from diffjscc.refiners.colour import FIXES
from diffjscc.refiners.conditions import Conditions
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.control import ControlModule, Denoiser
from diffjscc.refiners.devices import Placement
from diffjscc.refiners.guidance import LatentGuidance, NoiseSource
from diffjscc.refiners.latents import ConditionEncoder, Posterior, decode, encode
from diffjscc.refiners.prior import (
    bits_per_pixel,
    check_generators,
    check_prediction,
    sample_groups,
    side_multiple,
    start_levels,
    text_context,
)
from diffjscc.refiners.sampling import Progress, at_bits, paper_scheduler, sample
from diffjscc.refiners.text import TextFeatures
from diffjscc.refiners.tiling import blend_tiles
from diffjscc.scheme import Generator, Received, Reconstruction


class ControlledDiffusion:
    """The refiner of DiffJSCC (Yang, Liu, Wang, Kim, arXiv 2404.17736).

    Args:
        vae: pictures ↔ latents.
        unet: the prior.
        control: a control module made for it.
        scheduler: the noise that the prior was trained with; Stable Diffusion's by default.
        text: text features for the prior's cross attention. A prior that attends to text but
            has none reads a single zero instead.
        captioner: says what the pictures show; without one the caption is empty.
        condition_encoder: encoder of the condition latent where it is not the VAE's own.
        config: how to paint.
        progress: told (steps done, steps in all) while sampling.

    Attributes:
        config, captioner, progress: as given; they may be replaced.
        denoiser: prior and control module.
        placement: where it computes.

    Raises:
        ValueError: the control module is another prior's, or the prior does not predict noise.
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
        dtype: torch.dtype | None = None,
        offload: bool = False,
    ) -> ControlledDiffusion:
        """Choose where and how precisely to compute.

        Args:
            device: where.
            dtype: of the weights; by default bfloat16 on CUDA and float32 elsewhere.
            offload: keep the weights on the CPU and bring each network to `device` only while
                it is needed, for GPUs that cannot hold them all.

        Returns:
            This refiner.
        """
        self.placement = Placement(torch.device(device), offload)
        self.placement.settle(self._networks, dtype)
        return self

    @property
    def snr_range_db(self) -> tuple[float, float]:
        """SNR in dB that the control module was trained for, (low, high)."""
        low, high = self.denoiser.control.config.snr_range_db
        return low, high

    @property
    def multiple(self) -> int:
        """Pixels that the sides of pictures must be multiples of."""
        return side_multiple(self.vae, self.denoiser.unet)

    def refine(
        self, initial: Tensor, received: Received, generator: Generator = None
    ) -> Reconstruction:
        """See `Refiner.refine`; one draw per picture."""
        return self.draw(initial, received, 1, generator)

    @torch.no_grad()
    def draw(
        self, initial: Tensor, received: Received, repeats: int, generator: Generator = None
    ) -> Reconstruction:
        """Several pictures that fit what was received, from one condition latent and caption.

        Args:
            initial: [B, 3, H, W] in [0, 1].
            received: what they were decoded from; tells the effective SNR.
            repeats: draws N per picture.
            generator: drives sampling: one, or B·N.

        Returns:
            B·N pictures, a picture's draws one after the other.

        Raises:
            ValueError: another number of generators.
        """
        rows = [i for i in range(len(initial)) for _ in range(repeats)]
        levels = self.start_levels(received)
        if not any(levels):
            return Reconstruction(initial[rows], initial[rows])
        check_generators(generator, len(rows))
        images = initial.to(self.placement.device)
        prepared = self.prepare(images)
        captions = self.captions(images)
        parts = [at_bits(self.config.detail, bits) for bits in bits_per_pixel(received)]
        with self.placement.holding(self.vae, self.condition_encoder):
            needed = self._needs_posterior or any(parts)
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
        )
        with self.placement.holding(self.denoiser):
            deviations = self.decode_noise(received)
            z = self._sample_all(
                conditions.select(rows),
                [levels[i] for i in rows],
                [deviations[i] for i in rows],
                generator,
            )
        with self.placement.holding(self.vae):
            painted = self.decode(z)
            if posterior is not None and any(parts):
                lost = prepared - self.decode(posterior.mean)
                given_back = torch.tensor(parts, device=lost.device)[:, None, None, None] * lost
                painted = painted + given_back[rows]
        painted = FIXES[self.config.colour_fix](painted, prepared[rows]).clamp(0, 1)
        size = (initial.shape[-2], initial.shape[-1])
        image = self.restore(painted, size).to(initial.device)
        for draw, i in enumerate(rows):
            if levels[i] == 0:
                image[draw] = initial[i]
        return Reconstruction(
            image=image,
            initial=initial[rows],
            caption=None if captions is None else [captions[i] for i in rows],
        )

    def prepare(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] to a size that the networks take."""
        if self.config.geometry == "released":
            return torch.stack([released_prepare(x, multiple=self.multiple) for x in images])
        return pad_to_multiple(images, self.multiple)

    def restore(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures of `prepare`'s size back to size (H, W)."""
        if self.config.geometry == "released":
            return torch.stack([released_restore(x, size) for x in images])
        return crop(images, size)

    def start_levels(self, received: Received) -> list[float]:
        """Where sampling begins for each picture received; see `SamplerConfig`."""
        return start_levels(self.config.sampler, received)

    def decode_noise(self, received: Received) -> list[float]:
        """Deviation of the noise that each sampled latent gets; see `DiffusionConfig`."""
        return [at_bits(self.config.decode_noise, bits) for bits in bits_per_pixel(received)]

    def usable_snr(self, snr_db: Tensor) -> Tensor:
        """SNR [B] in dB that the control module is told; warns outside the trained range."""
        low, high = self.snr_range_db
        clamped = snr_db.clamp(low, high)
        if bool((clamped != snr_db).any()):
            told = (
                "the nearer end of the range is used in its place"
                if self.config.clamp_snr
                else "it is used as it is"
            )
            # Without the value in it, Python shows the text once and not for every fade.
            warnings.warn(
                f"an effective SNR is outside the {low:g} to {high:g} dB that the control module "
                f"was trained for; {told}",
                stacklevel=3,
            )
        return clamped if self.config.clamp_snr else snr_db

    def captions(self, images: Tensor) -> list[str] | None:
        """What pictures [B, 3, H, W] show; None without a captioner.

        Raises:
            ValueError: the prior reads no text.
        """
        if self.captioner is None:
            return None
        if self.text is None:
            raise ValueError(
                "captions were asked for, but this prior reads no text; go without a captioner"
            )
        with self.placement.holding(self.captioner.module):
            return self.captioner(images)

    def context(self, captions: list[str] | None, batch: int) -> Tensor | None:
        """Text features [B, L, d] of the captions; None for a prior that attends to none."""
        texts = [""] * batch if captions is None else captions
        return text_context(self.denoiser.unet, self.text, texts, self.placement)

    def condition(self, images: Tensor) -> Tensor:
        """Condition latent f_s, float32 [B, C, h, w]: the mode for prepared [B, 3, H, W]."""
        encoder = self.vae if self.condition_encoder is None else self.condition_encoder
        return encode(encoder, images, self.config.tile).mean

    def posterior(self, images: Tensor) -> Posterior:
        """What the VAE says of the latents of prepared pictures [B, 3, H, W]."""
        return encode(self.vae, images, self.config.tile)

    def decode(self, z: Tensor) -> Tensor:
        """Latent [B, C, h, w] to pictures, float32 [B, 3, H, W], not clamped."""
        return decode(self.vae, z, self.config.tile)

    def predict_noise(
        self,
        z_t: Tensor,
        t: int | Tensor,
        condition: Tensor,
        snr_db: Tensor,
        context: Tensor | None,
    ) -> Tensor:
        """Noise in a latent, float32 [B, C, h, w].

        Args:
            z_t: noisy latent [B, C, h, w].
            t: time step, one or int64 [B].
            condition: condition latent [B, C', h, w].
            snr_db: SNR in dB [B], within the trained range.
            context: text features [B, L, d] or None.
        """
        dtype = self.denoiser.unet.dtype
        if not isinstance(t, Tensor):
            t = torch.full((len(z_t),), t, device=z_t.device)
        z_t, condition = z_t.to(dtype), condition.to(dtype)
        strength, guidance = self.config.strength, self.config.control_guidance

        def network(rows: slice, columns: slice) -> Tensor:
            window = (..., rows, columns)
            inputs = z_t[window], t, condition[window], snr_db, context
            noise: Tensor = self.denoiser(*inputs, strength=strength)
            if guidance != 1:
                alone: Tensor = self.denoiser(*inputs, strength=0)
                noise = alone + guidance * (noise - alone)
            return noise

        return blend_tiles(network, (z_t.shape[-2], z_t.shape[-1]), self.config.tile).float()

    def sample(
        self,
        conditions: Conditions,
        noise: NoiseSource,
        *,
        guidance_noise: NoiseSource | None = None,
        decode_noise: Sequence[float] = (),
        begin: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draw latents, float32 [B, C, h, w], of pictures that begin at the same step.

        Args:
            conditions: of the B pictures.
            noise: see `sampling.sample`.
            guidance_noise: where guidance samples its target, asked for each sample; `noise` is
                asked in its place where it is None.
            decode_noise: deviation of the noise that each latent gets at last, from `noise`; none
                where it is empty.
            begin: how many of the time steps are left out.
            progress: see `sampling.sample`.
        """
        posterior, initial, guide = conditions.posterior, None, None
        if posterior is not None and self.config.sampler.start == "initial":
            initial = posterior.mean
        if posterior is not None and self.config.guidance.scale > 0:
            guide = LatentGuidance(self.config.guidance, posterior, guidance_noise or noise)
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
        )
        if not any(decode_noise):
            return z
        return z + torch.tensor(decode_noise, device=z.device)[:, None, None, None] * noise()

    @property
    def _needs_posterior(self) -> bool:
        return self.config.sampler.start == "initial" or self.config.guidance.scale > 0

    def _sample_all(
        self,
        conditions: Conditions,
        levels: list[float],
        deviations: list[float],
        generator: Generator,
    ) -> Tensor:
        """Sample pictures that begin at the same step together, the others by themselves."""
        batch, _, height, width = conditions.latent.shape

        def draw(rows: list[int], noise: NoiseSource, begin: int, report: Progress) -> Tensor:
            return self.sample(
                conditions.select(rows),
                noise,
                decode_noise=[deviations[i] for i in rows],
                begin=begin,
                progress=report,
            )

        return sample_groups(
            draw,
            (batch, self.denoiser.unet.config.in_channels, height, width),
            levels,
            self.config.sampler,
            self.scheduler,
            generator,
            self.placement.device,
            self.progress,
        )

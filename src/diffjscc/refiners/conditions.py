"""Networks of the diffusion receiver, and the conditions of controlled sampling.

Initial image → condition latent and posterior, caption → text features, SNR → clamped SNR.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.data.geometry import (
    PaddedImages,
    crop,
    released_prepare,
    released_restore,
    released_size,
)
from diffjscc.layers.banding import Bands, collect
from diffjscc.layers.block_dct import STRIDE
from diffjscc.refiners.captions import Captioner
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.control import ControlModule, Denoiser
from diffjscc.refiners.devices import Placement, Precision
from diffjscc.refiners.finishing import Targets
from diffjscc.refiners.latents import ConditionEncoder, Posterior, encode, stride
from diffjscc.refiners.library import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffjscc.refiners.prior import (
    bits_per_pixel,
    check_prediction,
    side_multiple,
    text_context,
)
from diffjscc.refiners.sampling import Progress, at_bits, paper_scheduler
from diffjscc.refiners.text import TextFeatures
from diffjscc.refiners.texture import fit, kept_share
from diffjscc.symbols import Received


@dataclass(frozen=True)
class Conditions:
    """Conditions of sampling, computed once and shared by all steps and samples.

    Attributes:
        latent: condition latent f_s, float32 [B, C, h, w].
        snr_db: SNR in dB within the trained range, float32 [B].
        context: text features [B, L, d], or None for a prior without cross attention.
        posterior: VAE posterior of the initial images, or None where it is not needed.
        kept: share of the sampled latent that each position keeps, the rest being that of the
            initial image, float32 [B, 1, h, w] in [0, 1]; None keeps all of it.
        lost: detail of prepared images that finishing adds to decoded ones, float32 [B, 3, H, W],
            for likelihood guidance; None adds none.
    """

    latent: Tensor
    snr_db: Tensor
    context: Tensor | None = None
    posterior: Posterior | None = None
    kept: Tensor | None = None
    lost: Tensor | None = None

    def select(self, rows: list[int]) -> Conditions:
        """Take the conditions of some images; an index may occur several times."""

        def some(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[rows]

        return Conditions(
            self.latent[rows],
            self.snr_db[rows],
            some(self.context),
            None if self.posterior is None else self.posterior.select(rows),
            some(self.kept),
            some(self.lost),
        )

    def mixed(self, z: Tensor) -> Tensor:
        """Mix sampled latents with the initial image's where it keeps a share only."""
        if self.posterior is None or self.kept is None:
            return z
        mean = self.posterior.mean
        return mean + self.kept * (z - mean)


class ReceiverNetworks:
    """Networks of the diffusion receiver, and the conditions that they compute.

    Arguments and attributes are those of `ControlledDiffusion`, which samples with them.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        control: ControlModule,
        *,
        distilled: ControlModule | None = None,
        scheduler: DDPMScheduler | None = None,
        text: TextFeatures | None = None,
        captioner: Captioner | None = None,
        condition_encoder: ConditionEncoder | None = None,
        config: DiffusionConfig | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.vae = vae
        self.denoiser = Denoiser(unet, control, distilled)
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
        controls = [control] if distilled is None else [control, distilled]
        self._networks: list[nn.Module] = [*frozen, *controls]
        for module in self._networks:
            module.eval()

    def to(
        self,
        device: torch.device | str,
        dtype: Precision = None,
        offload: bool = False,
    ) -> Self:
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
        own = side_multiple(self.vae, self.denoiser.unet)
        config = self.config
        # Images are finished by whole positions of the map.
        by_map = config.texture_margin is not None or config.missing_span is not None
        return math.lcm(own, STRIDE) if by_map else own

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

    def restore_smoothly(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Undo `prepare` as `restore` does, differentiably: without rounding to 8 bits."""
        if self.config.geometry == "released":
            enlarged = crop(images, released_size(size))
            if enlarged.shape[-2:] == size:
                return enlarged
            return F.interpolate(enlarged, size=size, mode="bicubic", antialias=True)
        return crop(images, size)

    def needs_posterior(self, fractions: list[float]) -> bool:
        """Return whether sampling with these fractions of detail needs the VAE's posterior."""
        config = self.config
        return (
            config.sampler.start == "initial"
            or config.latent_guidance.scale > 0
            or config.texture_span is not None
            or any(fractions)
        )

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
        return fit(share, (latent.shape[-2], latent.shape[-1]))

    def targets(self, prepared: PaddedImages, size: tuple[int, int], received: Received) -> Targets:
        """Collect what decoded images are to have when they are finished, to the size (H, W)."""
        texture = received.texture
        if texture is not None:
            height, width = prepared.size
            texture = texture.float().to(self.placement.device)
            texture = fit(texture, (height // STRIDE, width // STRIDE))
        return Targets(prepared, size, texture)

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

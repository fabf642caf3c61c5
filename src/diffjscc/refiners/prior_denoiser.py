"""Denoiser of images by the score of a latent diffusion prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffjscc.data.geometry import crop, pad_to_multiple
from diffjscc.refiners.ddnm import DDNM
from diffjscc.refiners.latents import decode, encode
from diffjscc.refiners.prior import text_context
from diffjscc.refiners.sampling import signal_powers


class PriorDenoiser:
    """One step of a prior, without any condition, as a denoiser of images.

    The latent z of an image is taken as a clean one with noise of the deviation σ that time step t
    has, σ² = (1 - ᾱ)/ᾱ; by Tweedie's formula the clean one is expected at z - σ·ε(sqrt(ᾱ)·z, t).
    The image moves by what the VAE's decoder makes of that difference.

    Args:
        prior: holds VAE and prior; its sampling is not used.
        level: t as a fraction of all time steps, above 0 and below 1.
    """

    def __init__(self, prior: DDNM, level: float = 0.1) -> None:
        if not 0 < level < 1:
            raise ValueError(f"level is {level}; it must be above 0 and below 1")
        powers = signal_powers(prior.scheduler)
        self.prior, self.t = prior, round(level * (len(powers) - 1))
        self.power = float(powers[self.t])

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Denoise images [B, 3, H, W] in [0, 1]; the result is not clamped."""
        prior, tile = self.prior, self.prior.config.tile
        moved = images.to(prior.placement.device)
        context = text_context(prior.unet, prior.text, [""] * len(images), prior.placement)
        with prior.placement.holding(prior.vae, prior.unet):
            z = encode(prior.vae, pad_to_multiple(moved, prior.multiple), tile).mean
            noise = prior.predict_noise(math.sqrt(self.power) * z, self.t, context)
            clean = z - math.sqrt((1 - self.power) / self.power) * noise
            change = decode(prior.vae, clean, tile) - decode(prior.vae, z, tile)
        return images + crop(change, (images.shape[-2], images.shape[-1])).to(images.device)

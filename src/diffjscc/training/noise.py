"""The denoising objective that prior and control module share."""

from __future__ import annotations

import torch
from torch import Tensor


def add_noise(clean: Tensor, noise: Tensor, power: Tensor) -> Tensor:
    """z_t = sqrt(ᾱ)·z_0 + sqrt(1 - ᾱ)·noise of [B, C, h, w], with ᾱ float64 [B]."""
    power = power[:, None, None, None]
    return power.sqrt().float() * clean + (1 - power).sqrt().float() * noise


def mean_square(errors: Tensor) -> Tensor:
    """Mean square of each [C, h, w], float32 [B]."""
    return errors.float().square().mean(dim=(1, 2, 3))


def step_weights(powers: Tensor, gamma: float | None) -> Tensor:
    """Weight of every time step's loss, float32 [T], from ᾱ [T].

    With γ it is min(SNR, γ)/SNR of SNR = ᾱ/(1 - ᾱ) (Hang et al., arXiv 2303.09556); without, 1.
    """
    snr = powers / (1 - powers)
    weights = torch.ones_like(snr) if gamma is None else snr.clamp(max=gamma) / snr
    return weights.float()

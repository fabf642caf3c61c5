"""Denoising objective of the prior and of the control module."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mean_square(errors: Tensor) -> Tensor:
    """Mean square of each [C, h, w], float32 [B]."""
    return errors.float().square().mean(dim=(1, 2, 3))


def amplitudes_of(powers: Tensor) -> Tensor:
    """Amplitudes sqrt(ᾱ) of the latent and sqrt(1 - ᾱ) of the noise, float32 [T, 2], from ᾱ [T].

    Not every device has float64.
    """
    return torch.stack((powers, 1 - powers), dim=1).sqrt().float()


class NoiseError(nn.Module):
    """Mean squared error of a network's predicted noise.

    Args:
        denoiser: from z_t [B, C, h, w], t [B] and conditions to the noise in z_t.
        powers: ᾱ of every time step, float64 [T].
    """

    amplitudes: Tensor

    def __init__(self, denoiser: nn.Module, powers: Tensor) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.register_buffer("amplitudes", amplitudes_of(powers), persistent=False)

    def forward(
        self, clean: Tensor, noise: Tensor, t: Tensor, *conditions: Tensor | None
    ) -> Tensor:
        """MSE of the predicted noise, float32 [B], of latents and noise [B, C, h, w] at t [B].

        The noisy latent is z_t = sqrt(ᾱ)·z_0 + sqrt(1 - ᾱ)·noise.
        """
        of_clean, of_noise = self.amplitudes[t, :, None, None, None].unbind(1)
        z_t = of_clean * clean + of_noise * noise
        return mean_square(self.denoiser(z_t, t, *conditions) - noise)


def step_weights(powers: Tensor, gamma: float | None) -> Tensor:
    """Weight of every time step's loss, float32 [T], from ᾱ [T].

    With γ it is min(SNR, γ)/SNR of SNR = ᾱ/(1 - ᾱ) (Hang et al., arXiv 2303.09556); without, 1.
    """
    snr = powers / (1 - powers)
    weights = torch.ones_like(snr) if gamma is None else snr.clamp(max=gamma) / snr
    return weights.float()

"""Latent guidance: each step moves the estimate x̂₀ towards the initial image's latent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from diffjscc.refiners.latents import Posterior

# Returns the next unit normal tensor [B, C, h, w] at each call.
NoiseSource = Callable[[], Tensor]


@dataclass(frozen=True)
class GuidanceConfig:
    """Settings of latent guidance.

    Attributes:
        scale: latent guidance scale Λ; 0 disables guidance. Larger values trade realism for
            fidelity.
        t_start: guidance acts at time steps t with t_stop < t + 1 < t_start.
        t_stop: see `t_start`.
        repeat: repetitions per step.
        target: target latent z*: the mode of the VAE's posterior of the initial image, or a new
            sample of it in every repetition, as in the released code.
    """

    scale: float = 0.0
    t_start: int = 1001
    t_stop: int = -1
    repeat: int = 1
    target: Literal["mode", "sample"] = "mode"

    def __post_init__(self) -> None:
        if self.scale < 0:
            raise ValueError(f"latent guidance scale is {self.scale}; it must be at least 0")
        if self.repeat < 1:
            raise ValueError(f"latent guidance repeat is {self.repeat}; it must be at least 1")

    def acts_at(self, t: int) -> bool:
        """Return whether time step t of 0 … 999 is guided."""
        return self.scale > 0 and self.t_stop < t + 1 < self.t_start


class LatentGuidance:
    """Shift of the estimate x̂₀ by δ = Λ(z* - x̂₀)/(C·h·w), repeated as configured.

    Args:
        config: settings.
        posterior: the VAE's posterior of the initial images.
        noise: called once per repetition if samples of the posterior are the target.
    """

    def __init__(self, config: GuidanceConfig, posterior: Posterior, noise: NoiseSource) -> None:
        self.config = config
        self.posterior = posterior
        self.noise = noise

    def __call__(self, clean: Tensor, t: int) -> Tensor | None:
        """Compute the shift of x̂₀ [B, C, h, w] at time step t; None where guidance is off."""
        if not self.config.acts_at(t):
            return None
        guided = clean
        for _ in range(self.config.repeat):
            guided = guided + self.config.scale * (self._target() - guided) / clean[0].numel()
        return guided - clean

    def _target(self) -> Tensor:
        if self.config.target == "sample":
            return self.posterior.sample(self.noise())
        return self.posterior.mean

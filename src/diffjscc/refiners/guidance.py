"""Latent guidance: pull each step's estimate of the clean latent towards the initial image's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from diffjscc.refiners.latents import Posterior

# Each call gives the next unit normal tensor [B, C, h, w].
NoiseSource = Callable[[], Tensor]


@dataclass(frozen=True)
class GuidanceConfig:
    """How strongly, and when.

    Attributes:
        scale: Λ; 0 leaves guidance out. Fidelity grows with it, realism falls.
        t_start: guidance acts at time steps t with t_stop < t + 1 < t_start.
        t_stop: see `t_start`.
        repeat: how many times per step.
        target: the latent pulled towards: the mode of the VAE's posterior of the initial image,
            or a fresh sample of it each time, which is what the released code did.
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
        """Whether time step t, of 0 … 999, is guided."""
        return self.scale > 0 and self.t_stop < t + 1 < self.t_start


class LatentGuidance:
    """The step δ = Λ(z* - x̂₀)/(C·h·w), repeated as configured.

    Args:
        config: how strongly, and when.
        posterior: what the VAE says of the initial images' latents.
        noise: where samples of it are the target, asked once per repetition.
    """

    def __init__(self, config: GuidanceConfig, posterior: Posterior, noise: NoiseSource) -> None:
        self.config = config
        self.posterior = posterior
        self.noise = noise

    def __call__(self, clean: Tensor, t: int) -> Tensor | None:
        """What to add to the estimate x̂₀ [B, C, h, w] at time step t; None for nothing."""
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

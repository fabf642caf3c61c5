"""Conditions of controlled sampling."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diffjscc.refiners.latents import Posterior


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
    """

    latent: Tensor
    snr_db: Tensor
    context: Tensor | None = None
    posterior: Posterior | None = None
    kept: Tensor | None = None

    def select(self, rows: list[int]) -> Conditions:
        """Take the conditions of some images; an index may occur several times."""
        context, posterior, kept = self.context, self.posterior, self.kept
        return Conditions(
            self.latent[rows],
            self.snr_db[rows],
            None if context is None else context[rows],
            None if posterior is None else posterior.select(rows),
            None if kept is None else kept[rows],
        )

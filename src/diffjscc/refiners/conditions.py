"""What the prior is steered by."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diffjscc.refiners.latents import Posterior


@dataclass(frozen=True)
class Conditions:
    """What images are sampled from: computed once, shared by all steps and draws.

    Attributes:
        latent: condition latent f_s, float32 [B, C, h, w].
        snr_db: SNR in dB within the trained range, float32 [B].
        context: text features [B, L, d], or None for a prior that attends to none.
        posterior: what the VAE says of the initial images; None where nothing asks for it.
    """

    latent: Tensor
    snr_db: Tensor
    context: Tensor | None = None
    posterior: Posterior | None = None

    def select(self, rows: list[int]) -> Conditions:
        """The conditions of some images, some of them perhaps several times."""
        context, posterior = self.context, self.posterior
        return Conditions(
            self.latent[rows],
            self.snr_db[rows],
            None if context is None else context[rows],
            None if posterior is None else posterior.select(rows),
        )

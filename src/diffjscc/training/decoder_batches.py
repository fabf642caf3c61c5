"""Batches of decoder training: windows of images, and latents of them of three kinds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffjscc.data.crops import EpochOrder
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.latents import LatentFolder


@dataclass(frozen=True)
class SampledBatch:
    """Images [b, 3, n, n] in [0, 1] and latents [b, C, h, h], float32."""

    images: Tensor
    latents: Tensor


class SampledBatches:
    """Images and latents of every iteration, by number.

    Args:
        latents: the sampled latents.
        config: seed, batch, and shares of the kinds of latents.
        stride: pixels per latent position and side.
    """

    def __init__(self, latents: LatentFolder, config: DecoderConfig, stride: int) -> None:
        self.latents, self.config, self.stride = latents, config, stride
        self.order = EpochOrder(config.run.seed, len(latents), config.run.batch)

    def names_at(self, step: int, process_index: int = 0, process_count: int = 1) -> list[str]:
        """Places of the latents of `batch_at`, in its order."""
        return [
            self.latents.name(number)
            for number in self.order.share(step, process_index, process_count)
        ]

    def batch_at(self, step: int, process_index: int = 0, process_count: int = 1) -> SampledBatch:
        """One process's part of the batch of iteration `step`."""
        share = self.config.run.batch // process_count
        rows = []
        for place in range(process_index * share, (process_index + 1) * share):
            rng = np.random.default_rng([self.config.run.seed, step, 1 + place])
            rows.append(self._row(self.order(step, place), rng))
        images, latents = zip(*rows, strict=True)
        return SampledBatch(torch.stack(images), torch.stack(latents))

    def _row(self, number: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        shares, size = self.config.shares, self.config.window // self.stride
        corner = (rng.random(), rng.random())
        kind = rng.choice(3, p=(shares.sampled, shares.original, shares.initial))
        if kind == 0:
            latent = self.latents.sampled(number, 0, size, corner)
        elif kind == 1:
            latent = self.latents.original(number, size, corner)[0]
        else:
            latent = self.latents.initial(number, 0, size, corner)
        return self.latents.image(number, size, corner, self.stride), latent

"""Crops with a seed of noise each, and what stages share that train on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffjscc.data.crops import TrainingCrops
from diffjscc.data.readable import ReadableImages
from diffjscc.training.stage import Stage


def noise_seeds(seed: int, step: int, batch: int, process: int, processes: int) -> Tensor:
    """Seeds [b] of this process's images in iteration `step`."""
    seeds = np.random.default_rng([seed, 3, step]).integers(2**62, size=batch)
    share = batch // processes
    return torch.from_numpy(seeds[process * share : (process + 1) * share])


@dataclass(frozen=True)
class SeededCrops:
    """Crops, float32 [b, 3, n, n] in [0, 1], and the seed of each one's noise [b]."""

    images: Tensor
    seeds: Tensor


class SeededCropsStage(Stage[SeededCrops]):
    """Base of stages that train on crops with noise.

    Attributes:
        crops: of every iteration.
    """

    crops: TrainingCrops

    def batches_at(self, step: int, process: int, processes: int) -> tuple[SeededCrops]:
        """See `Stage.batches_at`."""
        run = self.config.run
        seeds = noise_seeds(run.seed, step, run.batch, process, processes)
        return (SeededCrops(self.crops.batch_at(step, process, processes), seeds),)

    def names_at(self, step: int, process: int, processes: int) -> list[str]:
        """See `Stage.names_at`."""
        return self.crops.names_at(step, process, processes)

    def readable(self) -> ReadableImages:
        """The images that crops are taken of."""
        return self.crops.source

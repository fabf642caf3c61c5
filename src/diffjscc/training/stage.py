"""Protocol of a stage of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from torch import Tensor, nn

from diffjscc.data.readable import ReadableImages
from diffjscc.training.config import StageConfig
from diffjscc.training.log import Log
from diffjscc.training.optimiser import ParameterGroup

Batch = TypeVar("Batch")
Validation = Callable[[Log, int], None]  # logs metrics of held-out images after an iteration


class Stage(Protocol[Batch]):
    """One stage of training: networks, batches, losses, validation and export.

    Attributes:
        config: settings of the stage.
        module: computes the losses; wrapped for data parallelism and mixed precision.
        trained: all weights that training changes, in training mode; they are averaged,
            checkpointed and exported.
        groups: parameters of `trained`, by optimiser; the first one's learning rate is logged.
        identity: of the training images, see `training.images.identity`.
    """

    config: StageConfig
    module: nn.Module
    trained: nn.Module
    groups: Sequence[ParameterGroup]
    identity: str

    def batches_at(self, step: int, process: int, processes: int) -> Sequence[Batch]:
        """One process's part of an iteration's batch, split further where memory is short.

        Called in a background thread, ahead of time.
        """
        ...

    def names_at(self, step: int, process: int, processes: int) -> Sequence[str]:
        """Names of the images behind `batches_at`."""
        ...

    def readable(self) -> ReadableImages | None:
        """Training images of which some may turn out to be damaged; None: they were read before."""
        return None

    def losses(self, module: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of one element of `batches_at`, scalars by name; "loss" is minimised.

        "mse", if it is among them, is of images in [0, 1] and shown as PSNR.

        Args:
            module: `self.module`, wrapped.
            batch: on the CPU.
            step: number of the iteration, from 0.
        """
        ...

    def metrics(self) -> dict[str, float]:
        """Further metrics of the training images since the last call, by name."""
        return {}

    def validation(self) -> Validation | None:
        """Make the validation, in the main process only; None where there is none."""
        return None

    def save(self, folder: Path) -> None:
        """Export the weights that `trained` holds."""
        ...

"""The checkpoint from which an interrupted training run resumes bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from diffjscc.configuration import as_yaml
from diffjscc.data.files import atomic_write
from diffjscc.training.config import StageConfig
from diffjscc.training.ema import EMA
from diffjscc.training.optimiser import Optimiser

# Settings that may change when a run is resumed: they alter its length, its reports or the memory
# that it takes, and nothing else.
CHANGEABLE = {
    "run.iterations",
    "run.checkpoint_every",
    "run.log_every",
    "run.validate_every",
    "data.packed",
    "data.validation",
    "data.validation_images",
    "discriminators.optimiser.tail",
    "memory.accumulate",
    "memory.gradient_checkpointing",
    "optimiser.tail",
    "precompute.blip2",
    "precompute.folder",
    "sampled.folder",
    "sampler.name",
    "sampler.num_inference_steps",
}


class Checkpoint:
    """The state of a training run, in memory and in one file.

    Args:
        path: the file.
        model: everything that training changes.
        optimisers: of its parameters.
        ema: average of its weights.
        config: the run's settings.
    """

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        optimisers: Sequence[Optimiser],
        ema: EMA,
        config: StageConfig,
    ) -> None:
        self.path, self.model, self.optimisers = path, model, optimisers
        self.ema, self.config = ema, config

    def save(self, step: int) -> None:
        """Write, atomically, all that the iterations after the first `step` depend on."""
        state = {
            "step": step,
            "model": self.model.state_dict(),
            "ema": self.ema.state,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "config": as_yaml(self.config),
        }
        with atomic_write(self.path) as temporary:
            torch.save(state, temporary)

    def restore(self) -> int:
        """Load the file, if there is one.

        Returns:
            Number of iterations done so far; 0 without a file.

        Raises:
            ValueError: the file belongs to a run with other settings.
        """
        if not self.path.exists():
            return 0
        device = next(self.model.parameters()).device
        state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        before = _flatten(yaml.safe_load(state["config"]))
        now = _flatten(yaml.safe_load(as_yaml(self.config)))
        changed = [
            f"{key}: {before.get(key)} then, {now.get(key)} now"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and key not in CHANGEABLE
        ]
        if changed:
            raise ValueError(
                f"{self.path} belongs to a run with other settings ({'; '.join(changed)}); "
                "choose another output folder, or start from its weights with --init "
                "(train decoder: with weights=)"
            )
        self.model.load_state_dict(state["model"])
        for optimiser, own in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(own)
        self.ema.state = state["ema"]
        step: int = state["step"]
        return step


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

"""What every training stage shares: optimiser, step size, averaged weights, checkpoints, logs."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from diffjscc.configuration import as_yaml
from diffjscc.data.files import atomic_write
from diffjscc.training.config import OptimiserConfig, StageConfig

# Settings that may change when a run goes on: they alter its length, its reports or the memory
# that it takes, alone.
PROLONGABLE = {
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
    "painted.folder",
    "precompute.blip2",
    "precompute.folder",
    "sampler.name",
    "sampler.num_inference_steps",
}


class Optimiser:
    """AdamW, and Muon (torch.optim) for the weights that a config names, as one.

    Weight decay is on matrices and filters only. Muon's steps are scaled to the size of AdamW's,
    so one step size serves both.

    Args:
        model: whose trainable parameters it moves.
        config: its settings.

    Raises:
        ValueError: a name in `config.muon` that no weight has.
    """

    def __init__(self, model: nn.Module, config: OptimiserConfig) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        matrices = {name: p for name, p in trained.items() if _is_named(name, config.muon)}
        if any(p.ndim != 2 for p in matrices.values()):
            wrong = [name for name, p in matrices.items() if p.ndim != 2]
            raise ValueError(f"optimiser.muon is for matrices; {wrong[0]} is none")
        for wanted in config.muon:
            if not any(_is_named(name, (wanted,)) for name in matrices):
                raise ValueError(f"optimiser.muon names {wanted!r}, but no weight is named so")
        others = [p for name, p in trained.items() if name not in matrices]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        rate, decay = config.learning_rate, config.weight_decay
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=rate, betas=config.betas, fused=True)
        ]
        if matrices:
            matched = "match_rms_adamw"
            values = list(matrices.values())
            self.parts.append(
                torch.optim.Muon(values, lr=rate, weight_decay=decay, adjust_lr_fn=matched)
            )

    def step(self, learning_rate: float) -> None:
        """Move the parameters along their gradients, which are then forgotten."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()
            part.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        """What the next steps depend on."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Take up a state."""
        for part, own in zip(self.parts, state, strict=True):
            part.load_state_dict(own)


def _is_named(weight: str, layers: tuple[str, ...]) -> bool:
    """Whether "….layer.weight" is the weight of a layer of one of these names."""
    return weight.endswith(".weight") and weight.split(".")[-2] in layers


def learning_rate_at(step: int, iterations: int, config: OptimiserConfig) -> float:
    """Step size of iteration `step`, 0 <= step < iterations; a function of nothing else."""
    rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup, 1))
    if config.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * step / iterations))
    return rate * min(1.0, (iterations - step) / max(config.tail, 1))


class RunningMean:
    """Mean losses of this process's iterations since the last report."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Tensor]] = []

    def add(self, losses: dict[str, Tensor]) -> None:
        """Count an iteration's losses by name."""
        self._rows.append({name: loss.detach() for name, loss in losses.items()})

    def report(self) -> dict[str, float]:
        """The means by name; starts anew."""
        columns = {name: [row[name] for row in self._rows] for name in self._rows[0]}
        self._rows.clear()
        return {name: torch.stack(column).mean().item() for name, column in columns.items()}


class EMA:
    """Exponential moving average of a model's weights and buffers, with a short memory at first.

    Args:
        model: whose state is averaged.
        decay: the memory in the long run.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's state after iteration `step`."""
        weight = 1 - min(self.decay, (step + 2) / (step + 11))
        current = model.state_dict()
        moving = [name for name, value in self.state.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.state[name] for name in moving], [current[name] for name in moving], weight
        )
        for name in self.state.keys() - set(moving):
            self.state[name].copy_(current[name])


class swap_weights:  # noqa: N801
    """Context in which a model holds other weights."""

    def __init__(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        self.model, self.state = model, state

    def __enter__(self) -> None:
        """Put the other weights in."""
        self.own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.training = self.model.training
        self.model.load_state_dict(self.state)
        self.model.eval()

    def __exit__(self, *exception: object) -> None:
        """Put the model's own weights back."""
        self.model.load_state_dict(self.own)
        self.model.train(self.training)


class Run:
    """The state of a training run, in memory and in its folder's `checkpoint.pt`.

    Args:
        model: what is trained.
        optimiser: of its parameters.
        config: the stage's settings; `config.run` is a `RunConfig`.
        folder: the run's folder.
        opponent: of the rest of the parameters, where they move at steps of their own.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: Optimiser,
        config: StageConfig,
        folder: Path,
        opponent: Optimiser | None = None,
    ) -> None:
        self.model, self.optimiser, self.config = model, optimiser, config
        self.opponent = opponent
        self.averaged = EMA(model, config.run.ema)
        self.path = folder / "checkpoint.pt"

    def save(self, step: int) -> None:
        """Write everything that the iterations after `step` depend on, in one atomic step."""
        state = {
            "step": step,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state,
            "optimiser": self.optimiser.state_dict(),
            "config": as_yaml(self.config),
        }
        if self.opponent is not None:
            state["opponent"] = self.opponent.state_dict()
        with atomic_write(self.path) as temporary:
            torch.save(state, temporary)

    def restore(self) -> int:
        """Take up an interrupted run; returns how many iterations it has behind it, 0 if none.

        Raises:
            ValueError: that run was started with settings that may not change on the way.
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
            if before.get(key) != now.get(key) and key not in PROLONGABLE
        ]
        if changed:
            raise ValueError(
                f"{self.path} belongs to a run with other settings ({'; '.join(changed)}); "
                "choose another output folder, or start from its weights with --init "
                "(train decoder: with weights=)"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.opponent is not None:
            self.opponent.load_state_dict(state["opponent"])
        self.averaged.state = state["averaged"]
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


class Log:
    """Numbers of a run: `log.jsonl`, one object per report, and TensorBoard with images.

    Args:
        folder: the run's folder.
        start: iteration the run goes on from; later rows of a killed run are dropped.
        config: the run's settings as YAML, kept in `config.yaml`.
    """

    def __init__(self, folder: Path, start: int, config: str) -> None:
        with atomic_write(folder / "config.yaml") as temporary:
            temporary.write_text(config, encoding="utf-8")
        self.path = folder / "log.jsonl"
        rows = []
        if self.path.exists():
            rows = [line for line in self.path.read_text().splitlines() if _step(line) <= start]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in rows))
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Report scalars after `step` iterations."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def images(self, step: int, name: str, images: Tensor) -> None:
        """Show [B, 3, H, W] in [0, 1], side by side."""
        self.board.add_images(name, images.clamp(0, 1).cpu(), step)

    def close(self) -> None:
        """Flush what is pending."""
        self.board.close()


def leave(accelerator: Accelerator) -> None:
    """End a training; of several processes each leaves by itself.

    Gloo's thread takes Python's lock to let go of the last sums that processes exchanged, and torch
    holds that lock while it waits for the thread. Right after an iteration the one may wait for the
    other for ever; asleep, this thread lends the lock.
    """
    if accelerator.num_processes > 1:
        time.sleep(0.5)
    accelerator.end_training()


def _step(line: str) -> float:
    """Iteration of a log row; a row cut off by a kill belongs to no iteration."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return math.inf

"""Log of a training run: JSON lines and TensorBoard, and the means that are written there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from diffjscc.data.files import atomic_write


class RunningMean:
    """Mean of each loss over this process's iterations since the last report."""

    def __init__(self) -> None:
        self._losses: dict[str, list[Tensor]] = {}

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the losses of one iteration, scalars by name; a name may be missing in some."""
        for name, loss in losses.items():
            self._losses.setdefault(name, []).append(loss.detach())

    def report(self) -> dict[str, float]:
        """Means by name; starts anew."""
        means = {name: torch.stack(all_).mean().item() for name, all_ in self._losses.items()}
        self._losses.clear()
        return means


class Log:
    """Reports of a run: `log.jsonl`, one object per report, and TensorBoard with images.

    Args:
        folder: the run's folder.
        start: iteration that the run resumes from; later lines of a killed run are dropped.
        config: the run's settings as YAML, kept in `config.yaml`.
    """

    def __init__(self, folder: Path, start: int, config: str) -> None:
        with atomic_write(folder / "config.yaml") as temporary:
            temporary.write_text(config, encoding="utf-8")
        self.path = folder / "log.jsonl"
        lines = []
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in text.split("\n") if _step(line) <= start]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Write scalars after `step` iterations."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def images(self, step: int, name: str, images: Tensor) -> None:
        """Show images [B, 3, H, W] in [0, 1] side by side, in TensorBoard."""
        self.board.add_images(name, images.clamp(0, 1).cpu(), step)

    def close(self) -> None:
        """Write what is pending."""
        self.board.close()


def _step(line: str) -> float:
    """Iteration of a line; infinite for a line that was cut off or damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf

"""Progress bar of a training: iterations, loss, PSNR and time left."""

from __future__ import annotations

import math
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

MEMORY = 0.95  # weight of the earlier iterations in the numbers shown


class TrainingBar:
    """A bar on stderr, as a context.

    Args:
        begin: iterations done before.
        last: iterations in all.
        shown: whether this process shows it.
    """

    def __init__(self, begin: int, last: int, shown: bool) -> None:
        self.shown = shown
        self._means: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._progress.add_task("", total=last, completed=begin, numbers="")

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, done: int, losses: dict[str, Tensor]) -> None:
        """Show the state after `done` iterations; "mse", of images in [0, 1], as PSNR."""
        if not self.shown:
            return
        for name in {"loss", "mse"} & losses.keys():
            value = losses[name].item()
            before = self._means.get(name, value)
            self._means[name] = MEMORY * before + (1 - MEMORY) * value
        self._progress.update(self._task, completed=done, numbers=self._words())

    def _words(self) -> str:
        parts = [f"loss {self._means['loss']:.4g}"] if "loss" in self._means else []
        if self._means.get("mse", 0) > 0:
            parts.append(f"PSNR {-10 * math.log10(self._means['mse']):.2f} dB")
        return ", ".join(parts)

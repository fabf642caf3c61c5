"""What every command says, and how."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

    from diffjscc.metrics.lpips import LPIPS
    from diffjscc.scheme import Scheme

stdout = Console()
stderr = Console(stderr=True)


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a library's warning without its place in the source; the signature is Python's."""
    del category, filename, lineno, file, line
    stderr.print(f"[yellow]warning:[/] {escape(str(message))}", soft_wrap=True)


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn what a user can cause into one line and exit code 2, warnings into one line each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once", UserWarning)
            warnings.showwarning = _say_warning
            yield
    except (ValueError, OSError, MemoryError) as error:
        text = str(error) or type(error).__name__
        stderr.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
        raise typer.Exit(2) from None


def load_lpips(device: torch.device) -> LPIPS | None:
    """LPIPS with the smallest network, or None, with a reason, where its weights are missing."""
    from diffjscc.metrics.lpips import LPIPS  # noqa: PLC0415
    from diffjscc.metrics.weights import MetricUnavailable  # noqa: PLC0415

    try:
        return LPIPS.load("squeeze").to(device)
    except MetricUnavailable as error:
        stderr.print(f"[yellow]no LPIPS:[/] {escape(str(error))}", soft_wrap=True)
        return None


def show_steps(scheme: Scheme, progress: Progress) -> None:
    """A bar for the sampling steps of the image in work, if any refiner takes some."""
    from diffjscc.evaluation.transmission import sampling_refiner  # noqa: PLC0415

    refiner = sampling_refiner(scheme)
    if refiner is not None:
        task = progress.add_task("painting", total=None)
        refiner.progress = lambda done, total: progress.update(task, completed=done, total=total)

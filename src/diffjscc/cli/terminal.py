"""Messages that all commands share: errors, warnings, progress."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, TextIO, get_args

import typer
from rich.console import Console
from rich.markup import escape

from diffjscc.choices import ChannelName, SchemeKind
from diffjscc.memory import memory_error
from diffjscc.paths import printable
from diffjscc.progress import listening

if TYPE_CHECKING:
    from rich.progress import Progress

    from diffjscc.protocols import SamplingRefiner

# Words for help texts; anything else is an import string.
SCHEME_NAMES = tuple(kind for kind in get_args(SchemeKind) if kind not in ("generator", "custom"))
CHANNEL_NAMES = tuple(name for name in get_args(ChannelName) if name != "custom")
SCHEMES, CHANNELS = ", ".join(SCHEME_NAMES), ", ".join(CHANNEL_NAMES)

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it

stdout = Console()
stderr = Console(stderr=True)


class _Warnings:
    """Shows libraries' warnings without their places in the source, each text once."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Show a warning; the signature is that of `warnings.showwarning`."""
        del category, filename, lineno, file, line
        text = printed(" ".join(str(message).split()))
        if text not in self.said:
            self.said.add(text)
            stderr.print(f"[yellow]warning:[/] {text}", soft_wrap=True)


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn a user's errors into one line and exit code 2, warnings into one line each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _Warnings()
            yield
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError):
            raise  # nobody reads standard output any more, see `main`
        reason = memory_error(error) or error
        if isinstance(reason, RuntimeError) and not is_device_error(reason):
            raise  # a fault of this package, or of a part of the user's own
        stderr.print(f"[bold red]error:[/] {escape(in_one_line(reason))}", soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        stderr.print("[bold red]interrupted;[/] what is finished is kept")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def writing_stdout() -> Iterator[None]:
    """End the program in words where standard output cannot be written, silently if it is closed.

    `diffjscc … | head` closes it, and nothing is wrong with that.
    """
    said = 0  # exit code of a command that has reported an error
    try:
        try:
            yield
        except SystemExit as end:
            said = end.code if isinstance(end.code, int) else 0
            raise
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        code = said or 1
    except OSError as error:  # commands report all others themselves
        code = said or 2
        if not said:
            text = escape(in_one_line(error))
            stderr.print(f"[bold red]error:[/] standard output: {text}", soft_wrap=True)
    else:
        return
    with suppress(OSError):  # else Python says so once more when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def in_one_line(error: BaseException) -> str:
    """Return an error's text without line breaks, or its kind where it has none."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"  # Python puts the number first
    elif isinstance(error, OSError) and error.strerror and len(error.args) > 1:
        text = error.strerror
    return printable(" ".join(text.split())) or type(error).__name__


def printed(text: object) -> str:
    """Prepare a path or another text of users for a line of the console."""
    return escape(printable(str(text)))


def replace_unprintable(error: UnicodeError) -> tuple[str, int]:
    r"""Write `\xe9` or "?" for what a console cannot show: a handler of `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(text if (text := printable(sign)) != sign else "?" for sign in signs), error.end


def is_device_error(error: RuntimeError) -> bool:
    """Return whether a GPU or its driver failed, which torch says in its first line."""
    known = ("CUDA error", "CUDA driver", "cuDNN error", "HIP error", "NCCL error", "No CUDA GPUs")
    return str(error).startswith(known) or "NVIDIA driver" in str(error)


def show_steps(samplers: Iterable[SamplingRefiner | None], progress: Progress) -> None:
    """Show a bar for the sampling steps of the current image, if any refiner samples."""
    sampling = [sampler for sampler in samplers if sampler is not None]
    if sampling:
        task = progress.add_task("sampling", total=None)
    for sampler in sampling:
        sampler.progress = lambda done, total: progress.update(task, completed=done, total=total)


def show_work(progress: Progress) -> AbstractContextManager[None]:
    """Show a bar, with the time left, for what long work on a large image is at."""
    task = progress.add_task("", visible=False)
    (bar,) = (one for one in progress.tasks if one.id == task)
    shown = ""

    def listen(work: str, done: int, total: int) -> None:
        nonlocal shown
        if work != shown or done == 0:  # the time left is that of this work
            shown = work
            progress.reset(task, description=escape(work))
            bar.total = total or None  # to `reset` and `update`, None is what it was
        progress.update(task, completed=done, visible=done < max(total, 1))

    return listening(listen)

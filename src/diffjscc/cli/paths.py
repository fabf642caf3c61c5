"""Options and arguments that name files: `~` and variables expanded, outputs checked at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo

from diffjscc.paths import expanded, printable, resolved


def path(text: str | Path) -> Path:
    """Read a path."""
    return Path(place(text))


def place(text: str | Path) -> str:
    """Read what may be a path, or a name, hub id or import string."""
    try:
        return expanded(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def output_file(text: str | Path) -> Path:
    """Read the path of a file to write, which must be possible."""
    return _possible(text, folder=False)


def output_folder(text: str | Path) -> Path:
    """Read the path of a folder to write, which must be possible; it is made if need be."""
    return _possible(text, folder=True)


STDOUT = Path("-")


def output_place(text: str | Path) -> Path:
    """Read the path of a folder or a clip to write, or - for standard output, `STDOUT`."""
    from diffjscc.data.clip_names import is_clip_output  # noqa: PLC0415

    if text in ("-", STDOUT):
        return STDOUT
    output = path(text)
    clip = is_clip_output(output)
    return _possible(output if output != STDOUT else output.absolute(), folder=not clip)


def option(
    read: Callable[[str], Any], *names: str, help: str, panel: str | None = None
) -> OptionInfo:
    """An option that `read` reads, one of the functions of this module."""
    made: OptionInfo = typer.Option(*names, help=help, rich_help_panel=panel, parser=read)
    return made


def argument(read: Callable[[str], Any], help: str) -> ArgumentInfo:
    """An argument that `read` reads, one of the functions of this module."""
    made: ArgumentInfo = typer.Argument(help=help, parser=read)
    return made


def check_apart(output: Path | None, name: str, inputs: Sequence[Path]) -> None:
    """Refuse to write a file over one that is read.

    Args:
        output: the file; None is none.
        name: of the option that names it, for the error.
        inputs: files that are read, and folders whose every file is.

    Raises:
        ValueError: it is one of them, or lies in one of them.
    """
    from diffjscc.data.files import identity  # noqa: PLC0415

    if output is None:
        return
    place = resolved(output)
    for read in inputs:
        if identity(output) == identity(read) or (
            read.is_dir() and place.is_file() and resolved(read) in place.parents
        ):
            raise ValueError(
                f"{name} {printable(str(output))} would overwrite a file that is read; choose "
                "another name"
            )


def _possible(text: str | Path, folder: bool) -> Path:
    from diffjscc.data.files import check_output  # noqa: PLC0415

    output = path(text)
    try:
        check_output(output, folder)
    except OSError as error:
        raise typer.BadParameter(f"{printable(str(output))}: {error.strerror}") from None
    return output

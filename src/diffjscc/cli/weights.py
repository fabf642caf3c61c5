"""`diffjscc info` and `diffjscc convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from diffjscc.choices import WeightsFormat
from diffjscc.cli import paths
from diffjscc.cli.terminal import printed, report_errors, stdout


def info(
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """Show versions, device, and the cards of the bundled weights."""
    from diffjscc.cli.information import information  # noqa: PLC0415

    with report_errors():
        facts = information()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        import yaml  # noqa: PLC0415

        # Not by rich, which wraps at the width of the terminal.
        print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=10_000), end="")


def convert(
    source: Annotated[
        str, paths.argument(paths.place, "Folder, or hub id[@revision], of a checkpoint.")
    ],
    destination: Annotated[
        Path, paths.argument(paths.output_folder, "Folder to write; it must not exist.")
    ],
    to: Annotated[WeightsFormat, typer.Option(help="The format to write.")] = "diffjscc",
) -> None:
    """Convert the paper's released checkpoints to this package's weights, or back."""
    with report_errors():
        from diffjscc.pretrained.convert.released import convert_released  # noqa: PLC0415

        destination.parent.mkdir(parents=True, exist_ok=True)
        folder = convert_released(source, destination, to)
        stdout.print(f"weights are in {printed(folder)}", soft_wrap=True)

"""`diffjscc info`, `diffjscc list` and `diffjscc convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from diffjscc.choices import Listed, WeightsFormat
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


def list_(
    kind: Annotated[Listed, typer.Argument(help="Names to list.")],
    weights: Annotated[
        str | None,
        paths.option(paths.place, help="rates: of these weights; compact unless given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as a JSON array.")] = False,
) -> None:
    """List the names that commands take: weights, rates, schemes, channels or configs."""
    with report_errors():
        if weights is not None and kind != "rates":
            raise ValueError(f"--weights {weights} is for rates, not for {kind}; leave it out")

        from diffjscc.cli.listing import entries  # noqa: PLC0415

        found = entries(kind, weights or "compact")
        if as_json:
            print(json.dumps([entry.as_dict() for entry in found], indent=2))
            return

        from rich.table import Table  # noqa: PLC0415

        table = Table("name", *found[0].facts, "meaning", box=None, pad_edge=False)
        for column in table.columns[:-1]:
            column.no_wrap = True
        for entry in found:
            facts = entry.facts.values()
            cells = [f"{one:.6g}" if isinstance(one, float) else str(one) for one in facts]
            table.add_row(*map(escape, (entry.name, *cells, entry.description)))
        stdout.print(table)


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

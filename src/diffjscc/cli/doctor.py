"""`diffjscc doctor`."""

from __future__ import annotations

import typer
from rich.markup import escape

from diffjscc.cli.terminal import report_errors, stdout

MARKS = {True: "[green]works[/]", False: "[bold red]broken[/]", None: "[yellow]absent[/]"}


def doctor() -> None:
    """Look at every part of this installation: does it work, and if not, how to mend it.

    Nothing is fetched. The exit code is 1 where something is broken; parts that are absent are
    optional.
    """
    with report_errors():
        from rich.table import Table  # noqa: PLC0415

        from diffjscc.cli.checkup import examine  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        broken = []
        for finding in examine():
            mend = f"\n[dim]→[/] {escape(finding.remedy)}" if finding.remedy else ""
            table.add_row(MARKS[finding.works], finding.part, escape(finding.words) + mend)
            broken += [finding.part] if finding.works is False else []
        stdout.print(table)
        if broken:
            stdout.print(f"broken: {escape(', '.join(broken))}", soft_wrap=True)
            raise typer.Exit(1)

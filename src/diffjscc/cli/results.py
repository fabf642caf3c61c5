"""`diffjscc plot` and `diffjscc compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from diffjscc.cli import paths
from diffjscc.cli.terminal import report_errors, stderr, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from diffjscc.evaluation.compare import Difference

COLOURS = {"better": "green", "worse": "bold red", "same": "dim"}


def plot(
    results: Annotated[list[Path], paths.argument(paths.path, "Folders that an evaluation wrote.")],
    output: Annotated[
        Path | None,
        paths.option(
            paths.output_folder,
            "--output",
            "-o",
            help="Folder; default: figures in the first results.",
        ),
    ] = None,
) -> None:
    """Plot results: over rate, SNR or steps, whichever varies."""
    with report_errors():
        from diffjscc.evaluation.results import read_results  # noqa: PLC0415
        from diffjscc.report.figures import write_figures  # noqa: PLC0415

        folder = results[0] / "figures" if output is None else output
        for path in write_figures([read_results(place) for place in results], folder):
            stdout.print(escape(str(path)), soft_wrap=True)


def compare(
    before: Annotated[Path, paths.argument(paths.path, "Results to compare with.")],
    after: Annotated[Path, paths.argument(paths.path, "Results to check against them.")],
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="Largest change that counts as none: psnr=0.05, frechet=0.02 (a fraction)…"
        ),
    ] = None,
    json_file: Annotated[
        Path | None, paths.option(paths.output_file, "--json", help="Write every difference here.")
    ] = None,
) -> None:
    """Compare two folders of results in pairs: the same images and noise.

    Exit code 0: no metric is worse; 1: at least one is; 2: they cannot be compared.
    """
    with report_errors():
        from diffjscc.data.files import atomic_write  # noqa: PLC0415
        from diffjscc.evaluation import compare as comparison  # noqa: PLC0415
        from diffjscc.evaluation.results import differences, read_results  # noqa: PLC0415

        given = _tolerances(tolerance or [])
        old, new = read_results(before), read_results(after)
        limits = comparison.default_tolerances([old, new]) | given
        found = comparison.compare(old, new, limits)
        remarks = differences(old.setup, new.setup) + comparison.remarks(old, new)
        if json_file is not None:
            values = {"differences": [asdict(change) for change in found], "remarks": remarks}
            with atomic_write(json_file) as temporary:
                text = json.dumps(values, indent=1, ensure_ascii=False)
                temporary.write_text(f"{text}\n", encoding="utf-8")
        for sentence in remarks:
            stderr.print(f"[yellow]note:[/] {escape(sentence)}", soft_wrap=True)
        changed = [change for change in found if change.outcome != "same"]
        if changed:
            stdout.print(_table(changed))
        counts = {name: sum(change.outcome == name for change in found) for name in COLOURS}
        stdout.print(", ".join(f"{count} {name}" for name, count in counts.items()))
    if counts["worse"]:
        raise typer.Exit(1)


def _tolerances(settings: Sequence[str]) -> dict[str, float]:
    """Parse "psnr=0.05" and the like; raises ValueError where one is not of that form."""
    limits = {}
    for setting in settings:
        name, _, number = setting.partition("=")
        try:
            limits[name] = float(number)
        except ValueError as error:
            raise ValueError(
                f'--tolerance "{setting}": {number or "nothing"} is no number; write psnr=0.05'
            ) from error
    return limits


def _table(differences: Sequence[Difference]) -> Table:
    """Lay out a line per change, in 80 columns unless names are long."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption="± half of the 95 % interval over images",
        caption_justify="right",
    )
    for name in ("scheme", "sent at", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("before", "after", "change", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for one in differences:
        digits, half = one.digits, one.change.half_width
        spread = "" if half is None else f" ±{half:.{digits}f}"
        table.add_row(
            escape(one.scheme),
            f"{escape(one.channel)}, {one.nominal_rate}, {one.nominal_snr_db:g} dB",
            one.label,
            f"{one.before:.{digits}f}",
            f"{one.after:.{digits}f}",
            f"{one.change.mean:+.{digits}f}{spread}",
            f"[{COLOURS[one.outcome]}]{one.outcome}[/]",
        )
    return table

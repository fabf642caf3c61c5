"""`diffjscc plot`, `diffjscc table` and `diffjscc compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.markup import escape

from diffjscc.choices import PlotFormat
from diffjscc.cli import paths
from diffjscc.cli.terminal import printed, report_errors, stderr, stdout

if TYPE_CHECKING:
    from diffjscc.evaluation.compare import Difference
    from diffjscc.evaluation.results import Results

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
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=f"{', '.join(get_args(PlotFormat))}; once or several times.",
            show_default="png and pdf",
        ),
    ] = None,
) -> None:
    """Plot results: over rate, SNR or steps, whichever varies."""
    with report_errors():
        from diffjscc.configuration import closest  # noqa: PLC0415

        known = get_args(PlotFormat)
        chosen: list[PlotFormat] = []
        for name in formats or ("png", "pdf"):
            if name not in known:
                raise ValueError(f"--format {name} is not known; {closest(name, known)}")
            chosen.append(cast("PlotFormat", name))

        from diffjscc.evaluation.results import read_results  # noqa: PLC0415
        from diffjscc.report.figures import write_figures  # noqa: PLC0415

        folder = results[0] / "figures" if output is None else output
        found = [read_results(place) for place in results]
        for path in write_figures(found, folder, chosen):
            stdout.print(printed(path), soft_wrap=True)


CSVFile = Annotated[
    Path | None,
    paths.option(paths.output_file, "--csv", help="Write the means as CSV; - prints them."),
]
LaTeXFile = Annotated[
    Path | None,
    paths.option(paths.output_file, "--latex", help="Write them as a LaTeX tabular; - prints it."),
]


def table(
    results: Annotated[list[Path], paths.argument(paths.path, "Folders that an evaluation wrote.")],
    csv_file: CSVFile = None,
    latex_file: LaTeXFile = None,
) -> None:
    """Show the means of results: a row per scheme, channel, rate and SNR.

    They are printed, or written as CSV or LaTeX.
    """
    with report_errors():
        from diffjscc.evaluation.results import read_results  # noqa: PLC0415

        found = [read_results(place) for place in results]
        for option, file in (("--csv", csv_file), ("--latex", latex_file)):
            paths.check_apart(file, option, results)
        show_means(found, csv_file, latex_file)


def show_means(results: Sequence[Results], csv_file: Path | None, latex_file: Path | None) -> None:
    """Print the means of results, or write them where a file is given; "-" is the terminal.

    Raises:
        ValueError: see `summarise`.
        OSError: a file cannot be written.
    """
    from diffjscc.cli.tables import print_means  # noqa: PLC0415
    from diffjscc.data.files import atomic_write  # noqa: PLC0415
    from diffjscc.evaluation.results import check_records  # noqa: PLC0415
    from diffjscc.evaluation.statistics import summarise  # noqa: PLC0415
    from diffjscc.report.means import as_csv, as_latex  # noqa: PLC0415

    check_records(results)
    summaries = summarise(results)
    written = [(file, make) for file, make in ((csv_file, as_csv), (latex_file, as_latex)) if file]
    for file, make in written:
        text = make(summaries)
        if str(file) == "-":
            print(text, end="")
            continue
        with atomic_write(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
        stdout.print(f"table is in {printed(file)}", soft_wrap=True)
    if not written:
        print_means(stdout, summaries, [one for result in results for one in result.records])


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

    Exit code 0: no metric is worse; 1: at least one is, or a scheme or an image has vanished; 2:
    they cannot be compared.
    """
    with report_errors():
        from diffjscc.data.files import atomic_write  # noqa: PLC0415
        from diffjscc.evaluation import compare as comparison  # noqa: PLC0415
        from diffjscc.evaluation.layout import results_files  # noqa: PLC0415
        from diffjscc.evaluation.lines import as_json  # noqa: PLC0415
        from diffjscc.evaluation.results import differences, read_results  # noqa: PLC0415

        given = _tolerances(tolerance or [])
        for folder in (before, after):
            paths.check_apart(json_file, "--json", results_files(folder))
        old, new = read_results(before), read_results(after)
        limits = comparison.default_tolerances([old, new]) | given
        found = comparison.compare(old, new, limits)
        remarks = differences(old.setup, new.setup) + comparison.remarks(old, new)
        gone = comparison.vanished(old, new)
        if json_file is not None:
            values = {
                "differences": [asdict(change) for change in found],
                "vanished": gone,
                "remarks": remarks,
            }
            json_file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(json_file) as temporary:
                temporary.write_text(f"{as_json(values, indent=1)}\n", encoding="utf-8")
        for sentence in remarks:
            stderr.print(f"[yellow]note:[/] {escape(sentence)}", soft_wrap=True)
        changed = [change for change in found if change.outcome != "same"]
        if changed:
            _print_changes(changed)
        counts = {name: sum(change.outcome == name for change in found) for name in COLOURS}
        stdout.print(", ".join(f"{count} {name}" for name, count in counts.items()))
        for sentence in gone:
            stderr.print(f"[bold red]vanished:[/] {escape(sentence)}", soft_wrap=True)
    if counts["worse"] or gone:
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


def _print_changes(differences: Sequence[Difference]) -> None:
    """Print a row per change."""
    from diffjscc.cli.tables import Column, print_table  # noqa: PLC0415

    changes = []
    for one in differences:
        half = one.change.half_width
        spread = "" if half is None else f" ±{half:.{one.digits}f}"
        changes.append(f"{one.change.mean:+.{one.digits}f}{spread}")
    names = [
        Column("scheme", [escape(one.scheme) for one in differences]),
        Column(
            "sent at",
            [
                f"{escape(one.channel)}, {one.nominal_rate}, {one.nominal_snr_db:g} dB"
                for one in differences
            ],
        ),
        Column("metric", [one.label for one in differences]),
    ]
    values = [
        Column("before", [f"{one.before:.{one.digits}f}" for one in differences]),
        Column("after", [f"{one.after:.{one.digits}f}" for one in differences]),
        Column("change", changes),
        Column("", [f"[{COLOURS[one.outcome]}]{one.outcome}[/]" for one in differences]),
    ]
    print_table(stdout, names, values, "± half of the 95 % interval over images")

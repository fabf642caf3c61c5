"""`diffjscc report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from diffjscc.cli import paths
from diffjscc.cli.terminal import printed, report_errors, stdout


def report(
    results: Annotated[
        list[Path], paths.argument(paths.path, "Folders that `evaluate` or `reproduce` made.")
    ],
    output: Annotated[
        Path | None,
        paths.option(
            paths.output_file,
            "--output",
            "-o",
            help="HTML file; default: report.html in the first folder.",
        ),
    ] = None,
) -> None:
    """Show results as one page for a browser: plots, images, every transmission.

    The file needs neither the network nor other files.
    """
    with report_errors():
        from diffjscc.evaluation.layout import results_files  # noqa: PLC0415
        from diffjscc.evaluation.results import read_results  # noqa: PLC0415
        from diffjscc.report.page import write_report  # noqa: PLC0415

        for folder in results:
            paths.check_apart(output, "--output", results_files(folder))
        path = results[0] / "report.html" if output is None else output
        path.parent.mkdir(parents=True, exist_ok=True)
        write_report([read_results(folder) for folder in results], path)
        megabytes = path.stat().st_size / 1e6
        stdout.print(f"report is in {printed(path)} ({megabytes:.1f} MB)", soft_wrap=True)

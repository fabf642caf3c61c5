"""`diffjscc evaluate` and `diffjscc reproduce`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.markup import escape

from diffjscc.choices import FigureChoice, FigureName
from diffjscc.cli import paths, shared
from diffjscc.cli.results import CSVFile, LaTeXFile, show_means
from diffjscc.cli.terminal import CHANNELS, SCHEMES, printed, report_errors, stderr, stdout

if TYPE_CHECKING:
    from diffjscc.evaluation.config import SweepConfig
    from diffjscc.evaluation.results import Results
    from diffjscc.evaluation.sweep import SweepRun


ResultsFolder = Annotated[
    Path, paths.option(paths.output_folder, "--output", "-o", help="Folder of the results.")
]


def evaluate(
    output: ResultsFolder,
    images: Annotated[
        list[str] | None, paths.argument(paths.place, "Files, folders or glob patterns.")
    ] = None,
    config: Annotated[Path | None, paths.option(paths.path, help="YAML file of settings.")] = None,
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Schemes to compare: {SCHEMES}, or my_module:make.",
            autocompletion=shared.complete_scheme,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        paths.option(paths.place, help="Bundled name, folder or hub id (owner/name@revision)."),
    ] = None,
    rate: Annotated[list[str] | None, typer.Option(help="Channel uses per pixel.")] = None,
    snr: Annotated[list[float] | None, typer.Option(help="Es/N0 in dB.")] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Channels: {CHANNELS}, or my_module:MyChannel.",
            autocompletion=shared.complete_channel,
        ),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Transmissions per image.")
    ] = None,
    csv_file: CSVFile = None,
    latex_file: LaTeXFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, such as seed=1 or shown=24."),
    ] = None,
) -> None:
    """Measure schemes over rates, SNRs and channels; run again to go on after an interruption.

    With more schemes, channels, rates, SNRs, repeats or images beside those of the folder, only
    what is new is done. Exit code 0: all was sent; 1: transmissions failed, see the end of the
    output; 2: nothing was run.

    Ends with the table of means, which `diffjscc table` shows again. Options take precedence over
    the YAML file. On several GPUs or machines that share the folder:
    accelerate launch -m diffjscc evaluate …
    """
    with report_errors():
        from diffjscc.configuration import check, overridden, read_yaml  # noqa: PLC0415
        from diffjscc.evaluation.config import SweepConfig  # noqa: PLC0415
        from diffjscc.schemes.channel import ChannelConfig  # noqa: PLC0415
        from diffjscc.schemes.config import SchemeConfig  # noqa: PLC0415
        from diffjscc.schemes.rates import check_rates  # noqa: PLC0415

        values: dict[str, Any] = {} if config is None else read_yaml(config)
        options: dict[str, object] = {
            "images": images,
            "schemes": scheme and [SchemeConfig.named(name) for name in scheme],
            "rates": rate,
            "snrs_db": snr,
            "channels": channel and [ChannelConfig.named(name) for name in channel],
            "repeats": repeats,
        }
        values |= {name: value for name, value in options.items() if value not in (None, [])}
        values.setdefault("schemes", [{"kind": "deepjscc"}, {"kind": "diffjscc"}])
        if weights is not None:
            values["schemes"] = SchemeConfig.with_weights(values["schemes"], weights)
        where = "settings" if config is None else f"config {config}"
        checked = check(SweepConfig, overridden(values, settings or []), where)
        for choice in checked.schemes:
            check_rates(choice, checked.rates)

        from diffjscc.evaluation.sweep import Sweep  # noqa: PLC0415 - torch

        prepared = Sweep(checked, output).prepare()
        results = run(prepared, "transmitting")
        if prepared.leads:
            show_means([results], None, None)
            if csv_file is not None or latex_file is not None:
                show_means([results], csv_file, latex_file)
            stdout.print(f"results are in {printed(output)}", soft_wrap=True)
        failed = failures([results], prepared.leads)
    if failed:
        raise typer.Exit(1)


def reproduce(
    figure: Annotated[
        FigureChoice, typer.Argument(help="Figure of the paper, all of them, or deepjscc.")
    ],
    output: ResultsFolder,
    images: Annotated[
        list[str] | None,
        paths.option(paths.place, help="Files, folders or patterns.  [default: data/kodak]"),
    ] = None,
    weights: Annotated[
        str, paths.option(paths.place, help="Bundled name, folder or hub id (owner/name@revision).")
    ] = "compact",
    spatial: Annotated[
        str | None,
        paths.option(paths.place, help="fig6: weights whose control module knows no SNR."),
    ] = None,
    adversarial: Annotated[
        list[str] | None,
        paths.option(paths.place, help="fig4: weights that `train adversarial` made; once per α."),
    ] = None,
    train: Annotated[
        str | None,
        paths.option(paths.place, help="deepjscc: training images.  [default: CIFAR-10]"),
    ] = None,
    channel: Annotated[str | None, typer.Option(help="deepjscc: awgn or rayleigh.")] = None,
    repeats: Annotated[int, typer.Option(min=1, max=10_000, help="Transmissions per image.")] = 5,
    shown: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Images to keep for the report.")
    ] = 3,
    quick: Annotated[bool, typer.Option(help="A smoke test of under a minute.")] = False,
) -> None:
    """Run the paper's experiments and plot their figures; run again to go on.

    deepjscc is the figure of arXiv 1809.01733: codecs for images of 32x32 pixels are trained first,
    in minutes each.

    Each figure's results are a folder of their own in the output, with its plots; report.html
    shows all of them. On several GPUs: accelerate launch -m diffjscc reproduce …
    """
    with report_errors():
        from diffjscc.evaluation.experiments import (  # noqa: PLC0415
            Request,
            default_images,
            make_experiment,
        )
        from diffjscc.evaluation.sweep import Sweep  # noqa: PLC0415
        from diffjscc.report.figures import write_figures  # noqa: PLC0415
        from diffjscc.report.page import write_report  # noqa: PLC0415

        planned: list[tuple[str, str, SweepConfig | None, tuple[str, ...]]]
        if figure == "deepjscc":
            from diffjscc.cli.small_images import small_experiments  # noqa: PLC0415

            small = small_experiments(
                output / figure, train, images, channel or "awgn", repeats, quick
            )
            planned = [(f"{figure}/{one.name}", figure, one.config, one.left_out) for one in small]
        else:
            for option, value in (("--train", train), ("--channel", channel)):
                if value is not None:
                    raise ValueError(f"{option} {value} is for deepjscc, not for {figure}")
            chosen = tuple(images) if images else (default_images(quick),)
            rivals = tuple(adversarial or ())
            request = Request(chosen, weights, spatial, rivals, repeats, shown, quick)
            names = get_args(FigureName) if figure == "all" else (figure,)
            experiments = [make_experiment(name, request) for name in names]
            planned = [(one.figure, one.figure, one.config, one.left_out) for one in experiments]
        finished = []
        for name, drawn, config, left_out in planned:
            folder = output / name
            if config is None:
                text = f"[yellow]{name} is left out:[/] {escape('; '.join(left_out))}"
                stderr.print(text, soft_wrap=True)
                continue
            prepared = Sweep(config, folder, drawn, left_out).prepare()
            results = run(prepared, name)
            if prepared.leads:
                write_figures([results], folder / "figures")
            finished.append(results)
        if not finished:
            raise ValueError("none of these experiments can be run; the reasons stand above")
        if prepared.leads:
            report = output / "report.html"
            write_report(finished, report)
            stdout.print(f"look at {printed(report)}", soft_wrap=True)
        failed = failures(finished, prepared.leads)
    if failed:
        raise typer.Exit(1)


def failures(results: Sequence[Results], leads: bool) -> int:
    """Count transmissions that failed; the leading process says how many, and a first reason."""
    failed = [absent for result in results for absent in result.absent if absent.failed]
    if failed and leads:
        first = failed[0]
        stderr.print(
            f"[bold red]{len(failed)} transmissions failed[/] and have no record; run again to try "
            f"them again. The first was {escape(first.image)} by {escape(str(first.point))}: "
            f"{escape(first.reason)}",
            soft_wrap=True,
        )
    return len(failed)


def run(sweep: SweepRun, name: str) -> Results:
    """Run a sweep with a bar that shows the time left; report what is left out."""
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    if sweep.leads:
        for reason in sweep.setup.left_out:
            stderr.print(f"[yellow]{name} leaves out[/] {escape(reason)}", soft_wrap=True)
        for damage in sweep.repaired:
            stderr.print(f"[yellow]repaired:[/] {escape(damage)}", soft_wrap=True)
    with Progress(*columns, console=stderr, disable=not sweep.leads) as progress:
        total = sum(len(unit.transmissions) for unit in sweep.todo)
        task = progress.add_task(name, total=total)
        # In sight from the first step on, as long as something is done.
        sampling = progress.add_task("sampling", total=None, visible=False)
        sweep.steps = lambda done, steps: progress.update(
            sampling, completed=done, total=steps, visible=True
        )
        try:
            return sweep.run(lambda transmissions: progress.advance(task, transmissions))
        finally:
            progress.update(sampling, visible=False)

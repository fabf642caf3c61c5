"""`diffjscc calibrate …`: tables that a scheme's choices follow, measured on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from diffjscc.choices import PlotFormat
from diffjscc.cli import paths, shared
from diffjscc.cli.terminal import printed, report_errors, stderr, stdout

Photographs = Annotated[
    list[str],
    paths.argument(paths.place, "Folders, .tar shards or packs; no test set."),
]
WeightsOption = Annotated[
    str, paths.option(paths.place, help="Bundled name, folder or hub id (owner/name@revision).")
]
Table = Annotated[
    Path, paths.option(paths.output_file, "--output", "-o", help="JSON file to write.")
]
SeedOption = Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="Seed of all choices.")]


def calibrate_rates(
    photographs: Photographs,
    output: Table,
    weights: WeightsOption = "compact",
    count: Annotated[int, typer.Option(min=8, max=100_000, help="Photographs to send.")] = 200,
    seed: SeedOption = 0,
    device: shared.Device = "auto",
) -> None:
    """Measure the table by which a rate policy chooses a rate for each image.

    Schemes take it as rate_policy.table, or from rate_policy.json in the folder of the weights.
    """
    with report_errors():
        from diffjscc.data.sources import open_source  # noqa: PLC0415

        sources = [open_source(place) for place in photographs]

        from rich.progress import Progress  # noqa: PLC0415

        from diffjscc.evaluation.photographs import choose_photographs  # noqa: PLC0415
        from diffjscc.evaluation.rate_calibration import measure_rate_policy  # noqa: PLC0415
        from diffjscc.pretrained.diffjscc import DiffJSCC  # noqa: PLC0415 - torch
        from diffjscc.pretrained.rate_policy import save_rate_policy  # noqa: PLC0415

        scheme = DiffJSCC.from_pretrained(weights, refiner=None, device=device)
        chosen = choose_photographs(sources, count, seed)
        with Progress(console=stderr) as progress:
            task = progress.add_task("sending", total=len(chosen))
            predictor = measure_rate_policy(
                scheme, chosen, seed, lambda n: progress.advance(task, n)
            )
        save_rate_policy(predictor, output)
        for rate, error in zip(predictor.rates, predictor.errors_db, strict=True):
            stdout.print(f"R = {rate}: PSNR is predicted within {error:.2f} dB (rms)")
        stdout.print(f"table is in {printed(output)}", soft_wrap=True)


def calibrate_receiver(
    photographs: Photographs,
    output: Table,
    weights: WeightsOption = "compact",
    count: Annotated[int, typer.Option(min=4, max=100_000, help="Photographs to send.")] = 20,
    snr: Annotated[
        list[float] | None,
        typer.Option(help="Es/N0 in dB; once or several times.", show_default="1, 7, 13 and 19"),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="Channel uses per pixel.", show_default="all of the weights"),
    ] = None,
    figure: Annotated[
        Path | None,
        paths.option(paths.output_file, help="Draw it here: .png, .pdf or .svg."),
    ] = None,
    seed: SeedOption = 0,
    device: shared.Device = "auto",
) -> None:
    """Measure where the receiver repairs more than it breaks, at every rate of the weights.

    The table lies as benefit.json beside the refiner.json of the weights that it is of; their
    receiver then works in full where it helps, and keeps the codec's image where it does not.
    """
    with report_errors():
        from dataclasses import asdict  # noqa: PLC0415

        suffix = None if figure is None else _plot_format(figure)

        from diffjscc.data.sources import open_source  # noqa: PLC0415

        sources = [open_source(place) for place in photographs]

        from rich.progress import Progress  # noqa: PLC0415

        from diffjscc.evaluation.benefit import measure_benefit, strength_of  # noqa: PLC0415
        from diffjscc.evaluation.photographs import choose_photographs  # noqa: PLC0415
        from diffjscc.metrics.lpips import LPIPS  # noqa: PLC0415
        from diffjscc.pretrained.benefit import save_benefit  # noqa: PLC0415
        from diffjscc.pretrained.diffjscc import DiffJSCC  # noqa: PLC0415 - torch

        levels = snr or [1.0, 7.0, 13.0, 19.0]
        chosen = choose_photographs(sources, count, seed)
        scheme = DiffJSCC.from_pretrained(weights, device=device)
        lpips = LPIPS.load("squeeze").to(scheme.device)
        with Progress(console=stderr) as progress:
            total = len(chosen) * len(levels) * len(rate or scheme.codec.rates)
            task = progress.add_task("sending", total=total)
            found = measure_benefit(
                scheme,
                chosen,
                lpips,
                levels,
                rate or (),
                seed,
                lambda n: progress.advance(task, n),
            )
        strength = strength_of(found)
        save_benefit(strength, [asdict(one) for one in found], output)
        for one in sorted(found, key=lambda point: point.bits):
            stdout.print(
                f"R = {one.rate}, {one.snr_db:g} dB, {one.bits:.4f} bits per pixel: LPIPS falls by "
                f"{one.net:.4f} ± {one.half_width:.4f}; repaired {one.repaired:.4f}, broken "
                f"{one.broken:.4f}, {100 * one.worse:.0f} % of the regions are worse",
                soft_wrap=True,
            )
        stdout.print(f"table is in {printed(output)}", soft_wrap=True)
        if figure is not None and suffix is not None:
            from diffjscc.report.benefit import benefit_figure  # noqa: PLC0415
            from diffjscc.report.plots import save  # noqa: PLC0415

            drawn = benefit_figure(found, strength)
            (path,) = save(drawn, figure.parent, figure.stem, [suffix])
            stdout.print(f"figure is {printed(path)}", soft_wrap=True)


def _plot_format(figure: Path) -> PlotFormat:
    """Return the format that a file's name asks for; a ValueError lists those that there are."""
    known = get_args(PlotFormat)
    suffix = figure.suffix.removeprefix(".")
    if suffix not in known:
        raise ValueError(f"--figure {figure} ends in none of .{', .'.join(known)}; give it one")
    return cast("PlotFormat", suffix)

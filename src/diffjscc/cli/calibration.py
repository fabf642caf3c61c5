"""`diffjscc calibrate …`: tables that a scheme's choices follow, measured on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffjscc.cli import paths, shared
from diffjscc.cli.terminal import printed, report_errors, stderr, stdout

Photographs = Annotated[
    str,
    paths.argument(paths.place, "Folder, .tar shards or a pack; not a test set."),
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
    images: Annotated[int, typer.Option(min=8, max=100_000, help="Photographs to send.")] = 200,
    seed: SeedOption = 0,
    device: shared.Device = "auto",
) -> None:
    """Measure the table by which a rate policy chooses a rate for each image.

    Schemes take it as rate_policy.table, or from rate_policy.json in the folder of the weights.
    """
    with report_errors():
        from diffjscc.data.sources import open_source  # noqa: PLC0415

        source = open_source(photographs)

        from rich.progress import Progress  # noqa: PLC0415

        from diffjscc.evaluation.rate_calibration import measure_rate_policy  # noqa: PLC0415
        from diffjscc.pretrained.diffjscc import DiffJSCC  # noqa: PLC0415 - torch
        from diffjscc.pretrained.rate_policy import save_rate_policy  # noqa: PLC0415

        scheme = DiffJSCC.from_pretrained(weights, refiner=None, device=device)
        with Progress(console=stderr) as progress:
            task = progress.add_task("sending", total=min(images, len(source)))
            predictor = measure_rate_policy(
                scheme, source, images, seed, lambda n: progress.advance(task, n)
            )
        save_rate_policy(predictor, output)
        for rate, error in zip(predictor.rates, predictor.errors_db, strict=True):
            stdout.print(f"R = {rate}: PSNR is predicted within {error:.2f} dB (rms)")
        stdout.print(f"table is in {printed(output)}", soft_wrap=True)

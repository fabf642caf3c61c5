"""`diffjscc transmit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from typer.models import OptionInfo

from diffjscc.cli.terminal import load_lpips, plain_words, show_steps, stderr, stdout
from diffjscc.names import (
    CaptionerName,
    ChannelName,
    ColourFix,
    DTypeName,
    RefinerName,
    SamplerName,
    Start,
)

if TYPE_CHECKING:
    from diffjscc.evaluation.rows import Row

SAMPLES = 8


def _receiver(description: str) -> OptionInfo:
    """An option of the diffusion receiver; None leaves what the weights were made for."""
    option: OptionInfo = typer.Option(
        help=description, rich_help_panel="Diffusion receiver (default: as the weights have it)"
    )
    return option


def transmit(
    pictures: Annotated[list[str], typer.Argument(help="Files, folders or glob patterns.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")],
    snr: Annotated[float, typer.Option(help="Es/N0 in dB.")] = 1.0,
    rate: Annotated[str, typer.Option(help="Channel uses per pixel.")] = "1/128",
    weights: Annotated[str, typer.Option(help="Bundled name, folder or hub id.")] = "compact",
    channel: Annotated[ChannelName, typer.Option(help="What to send over.")] = "awgn",
    k_factor: Annotated[float, typer.Option(help="Rician: line-of-sight power ratio.")] = 4.0,
    transmitter_csi: Annotated[bool, typer.Option(help="The transmitter knows the fade.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Transmissions per picture.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides noise and fades.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every transmission's figures here.")
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Also map where samples of the diffusion receiver disagree.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option(min=2, help="Pictures painted for that map; 8 by default.")
    ] = None,
    refiner: Annotated[
        RefinerName | None, _receiver("What paints the final picture; none: the codec alone.")
    ] = None,
    sampler: Annotated[SamplerName | None, _receiver("ddpm is the paper's.")] = None,
    steps: Annotated[int | None, _receiver("Steps from pure noise.")] = None,
    start: Annotated[
        Start | None, _receiver("Where sampling begins; initial: the initial picture, noised.")
    ] = None,
    captioner: Annotated[
        CaptionerName | None, _receiver("Tells a prior that reads text what pictures show.")
    ] = None,
    caption: Annotated[str | None, _receiver("Your own words in a captioner's place.")] = None,
    guidance: Annotated[
        float | None, _receiver("Pull towards the initial picture; 0: none, more: fidelity.")
    ] = None,
    colour_fix: Annotated[
        ColourFix | None, _receiver("How the initial picture's colours are kept.")
    ] = None,
    strength: Annotated[
        float | None, _receiver("Of the control module; 0: the prior alone.")
    ] = None,
    dtype: Annotated[DTypeName, _receiver("auto: bfloat16 on CUDA, else float32.")] = "auto",
    offload: Annotated[bool, _receiver("Networks wait on the CPU until they are needed.")] = False,
) -> None:
    """Send pictures over a noisy channel and write what comes back.

    Per picture: NAME.png, what came back (NAME-2.png, … with --repeats); NAME-initial.png, what
    the diffusion receiver was given, where there is one; NAME-uncertainty.png, where --uncertainty
    asks for it; and NAME-side-by-side.png. Figures are measured on the pictures as written.
    """
    from rich.progress import Progress  # noqa: PLC0415

    with plain_words():
        from diffjscc.channels.choice import ChannelChoice  # noqa: PLC0415
        from diffjscc.data.pictures import find_pictures, unique_stems  # noqa: PLC0415
        from diffjscc.evaluation.judge import Judge  # noqa: PLC0415
        from diffjscc.jobs import Job, transmit_files, write_rows  # noqa: PLC0415
        from diffjscc.models.diffjscc import choose_device  # noqa: PLC0415
        from diffjscc.painting import PaintingOptions, load_scheme  # noqa: PLC0415
        from diffjscc.settings import check  # noqa: PLC0415
        from diffjscc.tables import figures_table  # noqa: PLC0415
        from diffjscc.transmission import Link  # noqa: PLC0415

        options = PaintingOptions(
            sampler=sampler,
            steps=steps,
            start=start,
            captioner=captioner,
            caption=caption,
            guidance=guidance,
            colour_fix=colour_fix,
            strength=strength,
            dtype=dtype,
            offload=offload,
        )
        if samples is not None and not uncertainty:
            raise ValueError(
                f"--samples {samples} is for the map of --uncertainty; ask for that, or leave it "
                "out"
            )
        over = {"name": channel, "k_factor": k_factor, "transmitter_csi": transmitter_csi}
        paths = find_pictures(pictures)
        scheme = load_scheme(weights, rate, refiner, options, device)
        computing = choose_device(device)
        link = Link(
            name="deepjscc" if scheme.refiner is None else "diffjscc",
            scheme=scheme,
            weights=scheme.weights,
            channel=check(ChannelChoice, over, "--channel"),
            snr_db=snr,
            seed=seed,
            judge=Judge(load_lpips(computing)),
            device=computing,
        )
        job = Job(link, repeats, output, (samples or SAMPLES) if uncertainty else None)
        output.mkdir(parents=True, exist_ok=True)
        rows: list[Row] = []
        failed: list[tuple[Path, Exception]] = []
        with Progress(console=stderr, transient=True) as progress:
            task = progress.add_task("transmitting", total=len(paths) * repeats)
            show_steps(scheme, progress)
            outcomes = transmit_files(
                job, paths, unique_stems(paths), lambda: progress.advance(task)
            )
            for path, outcome in outcomes:
                if isinstance(outcome, Exception):
                    failed.append((path, outcome))
                    progress.advance(task, repeats)
                else:
                    rows.extend(outcome)
        if rows:
            stdout.print(figures_table(rows))
            stdout.print(f"pictures are in {escape(str(output))}", soft_wrap=True)
        if json_file is not None:
            write_rows(rows, json_file)
    for path, error in failed:
        stderr.print(
            f"[bold red]failed:[/] {escape(str(path))}: {escape(str(error))}", soft_wrap=True
        )
    if failed:
        raise typer.Exit(1 if rows else 2)

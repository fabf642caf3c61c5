"""`diffjscc transmit`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from typer.models import OptionInfo

from diffjscc.choices import (
    CaptionerName,
    ColourFix,
    DTypeName,
    RefinerName,
    SamplerName,
    Start,
)
from diffjscc.cli import paths as files
from diffjscc.cli import shared
from diffjscc.cli.terminal import (
    CHANNELS,
    SCHEMES,
    printed,
    report_errors,
    show_steps,
    stderr,
    stdout,
)

if TYPE_CHECKING:
    from diffjscc.cli.jobs import Sending
    from diffjscc.evaluation.records import Absent, Record

SAMPLES = 8
LARGEST_SEED = (1 << 63) - 1


def _receiver(description: str) -> OptionInfo:
    """An option of the diffusion receiver; None leaves what the weights were made for."""
    option: OptionInfo = typer.Option(
        help=description, rich_help_panel="Diffusion receiver (default: as the weights have it)"
    )
    return option


def _link(description: str) -> OptionInfo:
    """An option of digital links; None leaves it to the SNR."""
    option: OptionInfo = typer.Option(
        help=description, rich_help_panel="Digital links (with --scheme)"
    )
    return option


def transmit(
    images: shared.Images,
    output: Annotated[
        Path, files.option(files.output_folder, "--output", "-o", help="Folder for the images.")
    ],
    snr: Annotated[
        list[float] | None,
        typer.Option(help="Es/N0 in dB; once or several times.", show_default="1"),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="Channel uses per pixel; once or several times.", show_default="1/128"),
    ] = None,
    weights: Annotated[
        str, files.option(files.place, help="Bundled name, folder or hub id (owner/name@revision).")
    ] = "compact",
    channel: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{CHANNELS}, or my_module:MyChannel; once or several times.",
            show_default="awgn",
            autocompletion=shared.complete_channel,
        ),
    ] = None,
    k_factor: Annotated[float, typer.Option(help="Rician: line-of-sight power ratio.")] = 4.0,
    transmitter_csi: Annotated[bool, typer.Option(help="The transmitter knows the fade.")] = False,
    repeats: Annotated[int, typer.Option(min=1, max=10_000, help="Transmissions per image.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of noise and fades.")
    ] = 0,
    device: shared.Device = "auto",
    max_side: Annotated[
        int | None,
        typer.Option(min=1, help="Reduce larger images to this longest side, in pixels."),
    ] = None,
    json_file: Annotated[
        Path | None,
        files.option(
            files.output_file, "--json", help="Write a record of every transmission here."
        ),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Write a map of where samples of the diffusion receiver disagree.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option(min=2, max=256, help="Samples for that map; 8 by default.")
    ] = None,
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{SCHEMES}, or my_module:make; several: side by side, over the same noise.",
            autocompletion=shared.complete_scheme,
        ),
    ] = None,
    adversarial: Annotated[
        str | None,
        files.option(files.place, help="--scheme adv: weights that `train adversarial` made."),
    ] = None,
    refiner: Annotated[
        RefinerName | None,
        _receiver("diffusion: needs weights with a receiver; none: the codec alone."),
    ] = None,
    sampler: Annotated[SamplerName | None, _receiver("ddpm is the paper's.")] = None,
    steps: Annotated[int | None, _receiver("Steps from pure noise, 1 to 1000.")] = None,
    start: Annotated[
        Start | None, _receiver("Where sampling begins; initial: the initial image, noised.")
    ] = None,
    captioner: Annotated[
        CaptionerName | None, _receiver("Captions for a prior with a text encoder.")
    ] = None,
    caption: Annotated[str | None, _receiver("Your own words in a captioner's place.")] = None,
    latent_guidance_scale: Annotated[
        float | None, _receiver("Latent guidance scale Λ; 0 disables it.")
    ] = None,
    colour_fix: Annotated[
        ColourFix | None, _receiver("How the initial image's colours are kept.")
    ] = None,
    control_scale: Annotated[
        float | None, _receiver("Factor on the control module's residuals; 0 disables it.")
    ] = None,
    control_guidance_scale: Annotated[
        float | None, _receiver("Guidance scale of the control module; 1 disables it.")
    ] = None,
    dtype: Annotated[DTypeName, _receiver("auto: bfloat16 on CUDA, else float32.")] = "auto",
    offload: Annotated[bool, _receiver("Keep each network on the CPU until it computes.")] = False,
    mcs: Annotated[str | None, _link('Modulation and code rate, such as "bpsk 2/3".')] = None,
    quality: Annotated[
        int | None, _link("Quality of the source codec; the rate follows from it.")
    ] = None,
    downsample: Annotated[
        bool, _link("Also try fewer pixels, and send what comes closest.")
    ] = False,
) -> None:
    """Transmit images over a noisy channel and write the reconstructions.

    Writes per image: NAME.png, the final image (NAME-2.png, … with --repeats); with a diffusion
    receiver also NAME-initial.png, the codec's own reconstruction; with --uncertainty also
    NAME-uncertainty.png; and NAME-side-by-side.png. Metrics are computed on the images as written.

    With --scheme, given once or several times: NAME-SCHEME.png of each scheme, and all of them in
    NAME-side-by-side.png.

    Several of --snr, --rate or --channel are combined, all with all; what there are several of is
    then in the names: NAME-rate1-64-snr7dB.png, NAME-rayleigh-side-by-side.png, …
    """
    with report_errors():
        # Options are checked first, by modules without torch: a slip is said at once.
        from diffjscc.cli.choice import OwnReceiver, choose, points  # noqa: PLC0415
        from diffjscc.configuration import check  # noqa: PLC0415
        from diffjscc.schemes.channel import ChannelConfig  # noqa: PLC0415
        from diffjscc.schemes.config import SchemeConfig  # noqa: PLC0415
        from diffjscc.schemes.digital_options import DigitalOptions  # noqa: PLC0415
        from diffjscc.schemes.options import RefinerOptions  # noqa: PLC0415
        from diffjscc.schemes.rates import check_rates  # noqa: PLC0415

        receiver = RefinerOptions(
            sampler=sampler,
            num_inference_steps=steps,
            start=start,
            captioner=captioner,
            caption=caption,
            latent_guidance_scale=latent_guidance_scale,
            colour_fix=colour_fix,
            control_scale=control_scale,
            control_guidance_scale=control_guidance_scale,
            dtype=dtype,
            offload=offload,
        )
        if samples is not None and not uncertainty:
            raise ValueError(
                f"--samples {samples} is for the map of --uncertainty; ask for that, or leave it "
                "out"
            )
        over = {"k_factor": k_factor, "transmitter_csi": transmitter_csi}
        said = {"mcs": mcs, "quality": quality, "downsample": downsample or None}
        digital = {name: value for name, value in said.items() if value is not None}
        channels = [
            check(ChannelConfig, ChannelConfig.named(name) | over, f"--channel {name}")
            for name in channel or ["awgn"]
        ]
        own = OwnReceiver(weights, refiner, (samples or SAMPLES) if uncertainty else None)
        places = points(channels, rate or ["1/128"], snr or [1.0])
        options = check(DigitalOptions, digital, "--scheme")
        choices = choose(scheme or [], own, adversarial, receiver, options)
        for choice in choices or [SchemeConfig(kind="deepjscc", weights=weights)]:
            check_rates(choice, [place.rate for place in places])

        from diffjscc.cli.preparation import METRICS, Preparation  # noqa: PLC0415 - torch
        from diffjscc.data.search import find_images  # noqa: PLC0415
        from diffjscc.metrics.evaluator import MetricEvaluator  # noqa: PLC0415
        from diffjscc.pretrained.diffjscc import choose_device  # noqa: PLC0415

        paths = find_images(images)
        read = [*paths, Path(weights), Path(adversarial or weights)]
        files.check_apart(json_file, "--json", read)
        _check_sure_outputs(paths, output, [place.suffix for place in places], choices, json_file)
        computing = choose_device(device)
        evaluator, unavailable = MetricEvaluator.load(METRICS, computing)
        for metric, reason in unavailable.items():
            stderr.print(f"[yellow]no {metric}:[/] {printed(reason)}", soft_wrap=True)
        preparation = Preparation(places, repeats, seed, output, evaluator, computing, max_side)
        job: Sending[Record | Absent]
        if choices:
            job = preparation.comparison(choices)
        else:
            job = preparation.transmission(own, receiver)
        sent, failed = _run(job, paths, json_file)
    for path, error in failed:
        named = "" if str(error).startswith(f"{path}: ") else f"{printed(path)}: "
        stderr.print(f"[bold red]failed:[/] {named}{printed(error)}", soft_wrap=True)
    if failed or not sent:
        raise typer.Exit(1 if sent else 2)


def _check_sure_outputs(
    paths: Sequence[Path],
    output: Path,
    suffixes: Sequence[str],
    choices: Sequence[object],
    json_file: Path | None,
) -> None:
    """Check the files whose names are known before anything is loaded; `_run` checks all."""
    from diffjscc.cli.jobs import check_outputs  # noqa: PLC0415
    from diffjscc.data.search import unique_stems  # noqa: PLC0415

    kinds = ["-side-by-side", *([] if choices else [""])]
    stems = [f"{stem}{suffix}" for stem in unique_stems(paths) for suffix in suffixes]
    sure = [output / f"{stem}{kind}.png" for stem in stems for kind in kinds]
    check_outputs([*sure, *([] if json_file is None else [json_file])], paths)


def _run(
    job: Sending[Record | Absent], paths: Sequence[Path], json_file: Path | None
) -> tuple[bool, list[tuple[Path, Exception]]]:
    """Send files and say what came of it; whether anything was sent, and which files failed."""
    from rich.progress import Progress  # noqa: PLC0415

    from diffjscc.cli.jobs import check_outputs, transmit_files  # noqa: PLC0415
    from diffjscc.cli.record_file import RecordFile  # noqa: PLC0415
    from diffjscc.cli.tables import print_metrics  # noqa: PLC0415
    from diffjscc.data.search import unique_stems  # noqa: PLC0415
    from diffjscc.evaluation.records import Absent  # noqa: PLC0415
    from diffjscc.metrics.catalogue import undefined  # noqa: PLC0415

    stems = unique_stems(paths)
    written = [file for stem in stems for file in job.files(stem)]
    check_outputs([*written, *([] if json_file is None else [json_file])], paths)
    job.output.mkdir(parents=True, exist_ok=True)
    each = job.repeats * len(job.links)
    records: list[Record] = []
    absent: list[Absent] = []
    failed: list[tuple[Path, Exception]] = []
    try:
        with (
            nullcontext() if json_file is None else RecordFile(json_file) as file,
            Progress(console=stderr, transient=True) as progress,
        ):
            task = progress.add_task("transmitting", total=len(paths) * each)
            show_steps([link.sampler for link in job.links], progress)

            def sent(record: Record | None) -> None:
                if record is not None:
                    records.append(record)
                    if file is not None:
                        file.add(record)
                progress.advance(task)

            for number, (path, outcome) in enumerate(transmit_files(job, paths, stems, sent), 1):
                if isinstance(outcome, Exception):
                    failed.append((path, outcome))
                else:
                    absent += [line for line in outcome if isinstance(line, Absent)]
                progress.update(task, completed=number * each)
    finally:  # after Ctrl-C as well
        if records:
            infos = job.links[0].evaluator.infos
            compared = len({link.name for link in job.links}) > 1
            print_metrics(stdout, records, infos, compared)
            sizes = list({one.image: (one.height, one.width) for one in records}.values())
            for sentence in undefined([info.name for info in infos], sizes):
                stderr.print(f"[yellow]without[/] {escape(sentence)}", soft_wrap=True)
            stdout.print(f"images are in {printed(job.output)}", soft_wrap=True)
    for missing in absent:
        text = f"{escape(missing.scheme)} cannot send[/] {escape(missing.image)}: "
        stderr.print(f"[yellow]{text}{escape(missing.reason)}", soft_wrap=True)
    return bool(records), failed

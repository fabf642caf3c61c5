"""The command line. Heavy imports wait inside the commands, so that `--help` is quick."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from typer.models import OptionInfo

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

    from diffjscc.evaluation.lpips import LPIPS
    from diffjscc.models.diffjscc import DiffJSCC
    from diffjscc.scheme import Channel
    from diffjscc.transmission import Row

app = typer.Typer(
    name="diffjscc",
    help="Send images over noisy channels; see them come back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train_app = typer.Typer(help="Train a part of a scheme.", no_args_is_help=True)
fetch_app = typer.Typer(help="Download a data set, checked and resumable.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(fetch_app, name="fetch")

stdout = Console()
stderr = Console(stderr=True)


ChannelName = Literal["awgn", "rayleigh", "rician"]
RefinerName = Literal["diffusion", "none"]
SamplerName = Literal["ddpm", "ddim", "dpm-solver++", "unipc"]
Start = Literal["noise", "initial"]
CaptionerName = Literal["blip2", "none"]
ColourFix = Literal["wavelet", "adain", "none"]
DTypeName = Literal["auto", "float32", "float16", "bfloat16"]
Format = Literal["diffjscc", "released"]
ConfigName = Annotated[str, typer.Option(help="Shipped config or YAML file.")]
RunFolder = Annotated[Path, typer.Option("--output", "-o", help="The run's folder.")]


def _receiver(description: str) -> OptionInfo:
    """An option of the diffusion receiver; None leaves what the weights were made for."""
    option: OptionInfo = typer.Option(
        help=description, rich_help_panel="Diffusion receiver (default: as the weights have it)"
    )
    return option


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a library's warning without its place in the source; the signature is Python's."""
    del category, filename, lineno, file, line
    stderr.print(f"[yellow]warning:[/] {escape(str(message))}", soft_wrap=True)


@contextmanager
def _plain_words() -> Iterator[None]:
    """Turn what a user can cause into one line and exit code 2, warnings into one line each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once", UserWarning)
            warnings.showwarning = _say_warning
            yield
    except (ValueError, OSError, MemoryError) as error:
        text = str(error) or type(error).__name__
        stderr.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
        raise typer.Exit(2) from None


def _channel(name: ChannelName, snr_db: float, k_factor: float, csi: bool) -> Channel:
    from diffjscc.channels import AWGN, Rayleigh, Rician  # noqa: PLC0415

    if name == "awgn":
        if csi:
            raise ValueError("--transmitter-csi needs a fading channel; awgn has no fade to know")
        return AWGN(snr_db)
    if name == "rayleigh":
        return Rayleigh(snr_db, transmitter_csi=csi)
    return Rician(snr_db, k_factor, csi)


def _lpips(device: torch.device) -> LPIPS | None:
    """LPIPS with the smallest network, or None, with a reason, where its weights are missing."""
    from diffjscc.evaluation.lpips import LPIPS, MetricUnavailable  # noqa: PLC0415

    try:
        return LPIPS.load("squeeze").to(device)
    except MetricUnavailable as error:
        stderr.print(f"[yellow]no LPIPS:[/] {escape(str(error))}", soft_wrap=True)
        return None


def _show_steps(scheme: DiffJSCC, progress: Progress) -> None:
    """A bar for the sampling steps of the picture in work, if any refiner takes some."""
    if scheme.refiner is None:
        return
    from diffjscc.refiners.diffusion import ControlledDiffusion  # noqa: PLC0415

    if isinstance(scheme.refiner, ControlledDiffusion):
        task = progress.add_task("painting", total=None)
        scheme.refiner.progress = lambda done, total: progress.update(
            task, completed=done, total=total
        )


@app.command()
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
    the diffusion receiver was given, where there is one; and NAME-side-by-side.png. Figures are
    measured on the pictures as written.
    """
    from rich.progress import Progress  # noqa: PLC0415

    with _plain_words():
        from diffjscc.data.pictures import find_pictures, unique_stems  # noqa: PLC0415
        from diffjscc.models.diffjscc import choose_device  # noqa: PLC0415
        from diffjscc.painting import PaintingOptions, load_scheme  # noqa: PLC0415
        from diffjscc.tables import figures_table  # noqa: PLC0415
        from diffjscc.transmission import Job, transmit_files, write_rows  # noqa: PLC0415

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
        paths = find_pictures(pictures)
        scheme = load_scheme(weights, rate, refiner, options, device)
        computing = choose_device(device)
        output.mkdir(parents=True, exist_ok=True)
        job = Job(
            scheme=scheme,
            channel=_channel(channel, snr, k_factor, transmitter_csi),
            channel_name=channel,
            snr_db=snr,
            repeats=repeats,
            seed=seed,
            lpips=_lpips(computing),
            output=output,
            device=computing,
        )
        rows: list[Row] = []
        failed: list[tuple[Path, Exception]] = []
        with Progress(console=stderr, transient=True) as progress:
            task = progress.add_task("transmitting", total=len(paths) * repeats)
            _show_steps(scheme, progress)
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


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """Versions, device, and the cards of the bundled weights."""
    from diffjscc.models.information import information  # noqa: PLC0415

    with _plain_words():
        facts = information()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        import yaml  # noqa: PLC0415

        stdout.print(escape(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)), end="")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Folder or hub id of a checkpoint.")],
    destination: Annotated[Path, typer.Argument(help="Folder to write; it must not exist.")],
    to: Annotated[Format, typer.Option(help="The format to write.")] = "diffjscc",
) -> None:
    """Convert the paper's released checkpoints to this package's weights, or back."""
    with _plain_words():
        from diffjscc.models.released import convert_released  # noqa: PLC0415

        folder = convert_released(source, destination, to)
        stdout.print(f"weights are in {escape(str(folder))}", soft_wrap=True)


@train_app.command("jscc")
def train_jscc(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: run.batch=16 …")
    ] = None,
    config: ConfigName = "compact-jscc",
    output: RunFolder = Path("runs/jscc"),
    init: Annotated[str | None, typer.Option(help="Weights to start from.")] = None,
) -> None:
    """Train a codec; run again to go on after an interruption.

    On several GPUs: accelerate launch -m diffjscc train jscc …
    """
    with _plain_words():
        from diffjscc.training.config import JSCCConfig, load_config  # noqa: PLC0415
        from diffjscc.training.jscc import train  # noqa: PLC0415

        weights = train(load_config(JSCCConfig, config, overrides or []), output, init)
        stdout.print(f"weights are in {escape(str(weights))}", soft_wrap=True)


@train_app.command("vae")
def train_vae(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: run.batch=16 …")
    ] = None,
    config: ConfigName = "compact-vae",
    output: RunFolder = Path("runs/vae"),
    init: Annotated[str | None, typer.Option(help="Weights whose VAE to start from.")] = None,
) -> None:
    """Train a VAE, the first half of a prior; run again to go on after an interruption."""
    with _plain_words():
        from diffjscc.training.config import VAEConfig, load_config  # noqa: PLC0415
        from diffjscc.training.vae import train  # noqa: PLC0415

        weights = train(load_config(VAEConfig, config, overrides or []), output, init)
        stdout.print(f"weights are in {escape(str(weights))}", soft_wrap=True)


@train_app.command("prior")
def train_prior(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: run.batch=32 …")
    ] = None,
    config: ConfigName = "compact-prior",
    output: RunFolder = Path("runs/prior"),
    init: Annotated[str | None, typer.Option(help="Weights whose prior to start from.")] = None,
) -> None:
    """Train a latent diffusion prior on a VAE; run again to go on after an interruption."""
    with _plain_words():
        from diffjscc.training.config import PriorConfig, load_config  # noqa: PLC0415
        from diffjscc.training.prior import train  # noqa: PLC0415

        weights = train(load_config(PriorConfig, config, overrides or []), output, init)
        stdout.print(f"weights are in {escape(str(weights))}", soft_wrap=True)


@app.command("precompute")
def precompute_latents(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: precompute.bins=8 …")
    ] = None,
    config: ConfigName = "compact-control",
) -> None:
    """Prepare what `train control` reads; run again to go on after an interruption.

    On several GPUs: accelerate launch -m diffjscc precompute …
    """
    with _plain_words():
        from diffjscc.training.config import ControlConfig, load_config  # noqa: PLC0415
        from diffjscc.training.precompute import precompute  # noqa: PLC0415

        folder = precompute(load_config(ControlConfig, config, overrides or []))
        stdout.print(f"latents are in {escape(str(folder))}", soft_wrap=True)


@train_app.command("control")
def train_control(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: run.batch=32 …")
    ] = None,
    config: ConfigName = "compact-control",
    output: RunFolder = Path("runs/control"),
    init: Annotated[
        str | None, typer.Option(help="Weights whose control module to start from.")
    ] = None,
) -> None:
    """Train a prior's control module; run again to go on after an interruption.

    Run `diffjscc precompute` with the same config and settings first.
    On several GPUs: accelerate launch -m diffjscc train control …
    """
    with _plain_words():
        from diffjscc.training.config import ControlConfig, load_config  # noqa: PLC0415
        from diffjscc.training.control import train  # noqa: PLC0415

        weights = train(load_config(ControlConfig, config, overrides or []), output, init)
        stdout.print(f"weights are in {escape(str(weights))}", soft_wrap=True)


@fetch_app.command("kodak")
def fetch_kodak(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder.")] = Path("data/kodak"),
) -> None:
    """The 24 Kodak pictures (15 MB), on which results are reported."""
    with _plain_words():
        from diffjscc.data import fetch  # noqa: PLC0415

        fetch.fetch_kodak(output)


@fetch_app.command("openimages")
def fetch_openimages(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder.")] = Path(
        "data/openimages"
    ),
    count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 154_000,
) -> None:
    """A subset of OpenImages as large as the paper's (about 45 GB), and its manifest."""
    with _plain_words():
        from diffjscc.data import fetch  # noqa: PLC0415

        fetched = fetch.fetch_openimages(output, count=count)
        stdout.print(f"pictures are in {escape(str(fetched.folder))}", soft_wrap=True)
    for name, reason in fetched.failed.items():
        stderr.print(f"[bold red]failed:[/] {escape(name)}: {escape(reason)}", soft_wrap=True)
    if fetched.failed:
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the `diffjscc` command."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without Unicode gets "?", not a traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()

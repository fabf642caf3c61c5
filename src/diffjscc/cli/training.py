"""`diffjscc train …`, `diffjscc precompute` and `diffjscc fetch …`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from diffjscc.cli import paths
from diffjscc.cli.terminal import printed, report_errors, stderr, stdout

ConfigName = Annotated[str, paths.option(paths.place, help="Shipped config or YAML file.")]
RunFolder = Annotated[
    Path, paths.option(paths.output_folder, "--output", "-o", help="The run's folder.")
]
FetchFolder = Annotated[Path, paths.option(paths.output_folder, "--output", "-o", help="Folder.")]


def say(text: str) -> None:
    """Print a line, in the first of several processes."""
    if os.environ.get("RANK", "0") == "0":
        stdout.print(text, soft_wrap=True)


@contextmanager
def one_of_several() -> Iterator[None]:
    """Report errors and signals once, whatever the number of processes that train together."""
    from diffjscc.training.interruption import (  # noqa: PLC0415
        Interrupted,
        ignore_signals,
        stopping,
    )
    from diffjscc.training.processes import let_go, others_stopped, speaks_first  # noqa: PLC0415

    code = 2
    with report_errors():
        try:
            with stopping():
                yield
            return
        except Interrupted as error:
            code = error.code
            if "RANK" in os.environ:
                ignore_signals()  # that a launcher passes on
            if speaks_first():
                stderr.print(f"[yellow]{escape(str(error))}[/]", soft_wrap=True)
        except (ValueError, OSError, MemoryError):
            if speaks_first():
                raise
        except RuntimeError:  # perhaps of an exchange with a process that has left
            if not others_stopped():
                speaks_first()
                raise
        finally:
            let_go()
    raise typer.Exit(code)


def train_jscc(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: run.batch=16 …")
    ] = None,
    config: ConfigName = "compact-jscc",
    output: RunFolder = Path("runs/jscc"),
    init: Annotated[str | None, paths.option(paths.place, help="Weights to start from.")] = None,
) -> None:
    """Train a codec; run again to resume after an interruption.

    On several GPUs: accelerate launch -m diffjscc train jscc …
    """
    with one_of_several():
        from diffjscc.training.codec_config import JSCCConfig  # noqa: PLC0415
        from diffjscc.training.config import load_config  # noqa: PLC0415

        settings = load_config(JSCCConfig, config, overrides or [])

        from diffjscc.training.jscc import train  # noqa: PLC0415 - torch

        weights = train(settings, output, init)
        say(f"weights are in {printed(weights)}")


def train_adversarial(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: adversary.weight=1e-3 …")
    ] = None,
    config: ConfigName = "compact-adversarial",
    output: RunFolder = Path("runs/adversarial"),
    init: Annotated[
        str | None, paths.option(paths.place, help="Weights whose codec to start from.")
    ] = None,
) -> None:
    """Train a codec against a discriminator; run again to resume after an interruption.

    On several GPUs: accelerate launch -m diffjscc train adversarial …
    """
    with one_of_several():
        from diffjscc.training.codec_config import AdversarialConfig  # noqa: PLC0415
        from diffjscc.training.config import load_config  # noqa: PLC0415

        settings = load_config(AdversarialConfig, config, overrides or [])

        from diffjscc.training.adversarial import train  # noqa: PLC0415 - torch

        weights = train(settings, output, init)
        say(f"weights are in {printed(weights)}")


def train_feedback(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: codec.rounds=3 …")
    ] = None,
    config: ConfigName = "compact-feedback",
    output: RunFolder = Path("runs/feedback"),
    init: Annotated[
        str | None, paths.option(paths.place, help="Weights with feedback to start from.")
    ] = None,
) -> None:
    """Train rounds with feedback after a trained codec's; run again to resume.

    On several GPUs: accelerate launch -m diffjscc train feedback …
    """
    with one_of_several():
        from diffjscc.training.codec_config import FeedbackTrainingConfig  # noqa: PLC0415
        from diffjscc.training.config import load_config  # noqa: PLC0415

        settings = load_config(FeedbackTrainingConfig, config, overrides or [])

        from diffjscc.training.feedback import train  # noqa: PLC0415 - torch

        weights = train(settings, output, init)
        say(f"weights are in {printed(weights)}")


def train_vae(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: run.batch=16 …")
    ] = None,
    config: ConfigName = "compact-vae",
    output: RunFolder = Path("runs/vae"),
    init: Annotated[
        str | None, paths.option(paths.place, help="Weights whose VAE to start from.")
    ] = None,
) -> None:
    """Train a VAE, the first half of a prior; run again to resume after an interruption."""
    with one_of_several():
        from diffjscc.training.config import load_config  # noqa: PLC0415
        from diffjscc.training.prior_config import VAEConfig  # noqa: PLC0415

        settings = load_config(VAEConfig, config, overrides or [])

        from diffjscc.training.vae import train  # noqa: PLC0415 - torch

        weights = train(settings, output, init)
        say(f"weights are in {printed(weights)}")


def train_prior(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: run.batch=32 …")
    ] = None,
    config: ConfigName = "compact-prior",
    output: RunFolder = Path("runs/prior"),
    init: Annotated[
        str | None, paths.option(paths.place, help="Weights whose prior to start from.")
    ] = None,
) -> None:
    """Train a latent diffusion prior on a VAE; run again to resume after an interruption."""
    with one_of_several():
        from diffjscc.training.config import load_config  # noqa: PLC0415
        from diffjscc.training.prior_config import PriorConfig  # noqa: PLC0415

        settings = load_config(PriorConfig, config, overrides or [])

        from diffjscc.training.prior import train  # noqa: PLC0415 - torch

        weights = train(settings, output, init)
        say(f"weights are in {printed(weights)}")


def precompute_latents(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: precompute.bins=8 …")
    ] = None,
    config: ConfigName = "compact-control",
) -> None:
    """Compute the latents that `train control` reads; run again to resume after an interruption.

    On several GPUs: accelerate launch -m diffjscc precompute …
    """
    with one_of_several():
        from diffjscc.training.config import load_config  # noqa: PLC0415
        from diffjscc.training.control_config import ControlConfig  # noqa: PLC0415

        settings = load_config(ControlConfig, config, overrides or [])

        from diffjscc.training.precompute import precompute  # noqa: PLC0415 - torch

        folder = precompute(settings)
        say(f"latents are in {printed(folder)}")


def train_control(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: run.batch=32 …")
    ] = None,
    config: ConfigName = "compact-control",
    output: RunFolder = Path("runs/control"),
    init: Annotated[
        str | None, paths.option(paths.place, help="Weights whose control module to start from.")
    ] = None,
) -> None:
    """Train a prior's control module; run again to resume after an interruption.

    Run `diffjscc precompute` with the same config and settings first.
    On several GPUs: accelerate launch -m diffjscc train control …
    """
    with one_of_several():
        from diffjscc.training.config import load_config  # noqa: PLC0415
        from diffjscc.training.control_config import ControlConfig  # noqa: PLC0415

        settings = load_config(ControlConfig, config, overrides or [])

        from diffjscc.training.control import train  # noqa: PLC0415 - torch

        weights = train(settings, output, init)
        say(f"weights are in {printed(weights)}")


def train_decoder(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: weights=runs/control/weights …")
    ] = None,
    config: ConfigName = "compact-decoder",
    output: RunFolder = Path("runs/decoder"),
) -> None:
    """Train a receiver's decoder on latents that its prior samples; run again to resume.

    The latents are sampled first; that may be interrupted and resumed too.
    On several GPUs: accelerate launch -m diffjscc train decoder …
    """
    with one_of_several():
        from diffjscc.training.config import load_config  # noqa: PLC0415
        from diffjscc.training.decoder_config import DecoderConfig  # noqa: PLC0415

        settings = load_config(DecoderConfig, config, overrides or [])

        from diffjscc.training.decoder import train  # noqa: PLC0415 - torch

        weights = train(settings, output)
        say(f"weights are in {printed(weights)}")


def train_distillation(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: steps=2 …")
    ] = None,
    config: ConfigName = "compact-distillation",
    output: RunFolder = Path("runs/distillation"),
) -> None:
    """Distil a receiver to few sampling steps without guidance; run again to resume.

    Its own sampling is computed first; that may be interrupted and resumed too.
    On several GPUs: accelerate launch -m diffjscc train distillation …
    """
    with one_of_several():
        from diffjscc.training.config import load_config  # noqa: PLC0415
        from diffjscc.training.distillation_config import DistillationConfig  # noqa: PLC0415

        settings = load_config(DistillationConfig, config, overrides or [])

        from diffjscc.training.distillation import train  # noqa: PLC0415 - torch

        weights = train(settings, output)
        say(f"weights are in {printed(weights)}")


def train_denoiser(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: noise.deviation=[0,0.5] …")
    ] = None,
    config: ConfigName = "compact-denoiser",
    output: RunFolder = Path("runs/denoiser"),
    init: Annotated[
        str | None, paths.option(paths.place, help="Weights whose denoiser to start from.")
    ] = None,
) -> None:
    """Train a bias-free denoiser, for --refiner isec; run again to resume.

    On several GPUs: accelerate launch -m diffjscc train denoiser …
    """
    with one_of_several():
        from diffjscc.training.config import load_config  # noqa: PLC0415
        from diffjscc.training.denoiser_config import DenoiserConfig  # noqa: PLC0415

        settings = load_config(DenoiserConfig, config, overrides or [])

        from diffjscc.training.denoiser import train  # noqa: PLC0415 - torch

        weights = train(settings, output, init)
        say(f"weights are in {printed(weights)}")


def fetch_kodak(
    output: FetchFolder = Path("data/kodak"),
) -> None:
    """Download the 24 Kodak images (15 MB), on which results are reported."""
    with report_errors():
        from diffjscc.data import fetch  # noqa: PLC0415

        fetch.fetch_kodak(output)


def fetch_cifar10(
    output: FetchFolder = Path("data/cifar10"),
) -> None:
    """Download CIFAR-10 (170 MB), for `diffjscc reproduce deepjscc`."""
    with report_errors():
        from diffjscc.data import cifar  # noqa: PLC0415

        folder = cifar.fetch_cifar10(output)
        stdout.print(f"images are in {printed(folder)}", soft_wrap=True)


def fetch_openimages(
    output: FetchFolder = Path("data/openimages"),
    count: Annotated[int, typer.Option(min=1, help="Images.")] = 154_000,
) -> None:
    """Download a subset of OpenImages as large as the paper's (about 45 GB), and its manifest."""
    with report_errors():
        from diffjscc.data import fetch  # noqa: PLC0415

        fetched = fetch.fetch_openimages(output, count=count)
        stdout.print(f"images are in {printed(fetched.folder)}", soft_wrap=True)
    for name, reason in fetched.failed.items():
        stderr.print(f"[bold red]failed:[/] {escape(name)}: {escape(reason)}", soft_wrap=True)
    if fetched.failed:
        raise typer.Exit(1)

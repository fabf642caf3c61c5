"""The command line. Heavy imports wait inside the commands, so that `--help` is quick."""

from __future__ import annotations

import atexit
import codecs
import gc
import sys
from typing import Annotated

import typer

from diffjscc.cli import (
    calibration,
    demo,
    doctor,
    evaluation,
    export,
    radio,
    report,
    results,
    symbols,
    training,
    transmit,
    weights,
)
from diffjscc.cli.reading import Command, Group
from diffjscc.cli.terminal import replace_unprintable, writing_stdout
from diffjscc.version import __version__

app = typer.Typer(
    cls=Group,
    name="diffjscc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train = typer.Typer(cls=Group, help="Train a part of a scheme.", no_args_is_help=True)
payload = typer.Typer(
    cls=Group, help="Payload symbols for a radio chain of one's own.", no_args_is_help=True
)
fetch = typer.Typer(
    cls=Group, help="Download a data set, checked and resumable.", no_args_is_help=True
)

calibrate = typer.Typer(
    cls=Group, help="Measure the tables that choices follow.", no_args_is_help=True
)
exporting = typer.Typer(cls=Group, help="Write networks for other programs.", no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"diffjscc {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Transmit images over noisy channels by deep joint source-channel coding."""
    del version


app.command()(transmit.transmit)
app.command()(radio.send)
app.command()(radio.receive)
app.command()(evaluation.evaluate)
app.command()(evaluation.reproduce)
app.command()(demo.demo)
app.command()(doctor.doctor)
app.command()(report.report)
app.command()(results.plot)
app.command()(results.table)
app.command()(results.compare)
app.command()(weights.info)
app.command("list")(weights.list_)
app.command()(weights.convert)
app.command()(weights.publish)
app.command("precompute")(training.precompute_latents)
train.command("jscc")(training.train_jscc)
train.command("adversarial")(training.train_adversarial)
train.command("feedback")(training.train_feedback)
train.command("vae")(training.train_vae)
train.command("prior")(training.train_prior)
train.command("control")(training.train_control)
train.command("decoder")(training.train_decoder)
train.command("distillation")(training.train_distillation)
train.command("denoiser")(training.train_denoiser)
fetch.command("kodak")(training.fetch_kodak)
fetch.command("cifar10")(training.fetch_cifar10)
fetch.command("openimages")(training.fetch_openimages)
exporting.command("onnx")(export.export_onnx)
payload.command("export")(symbols.export)
payload.command("import")(symbols.import_)
calibrate.command("rates")(calibration.calibrate_rates)
calibrate.command("receiver")(calibration.calibrate_receiver)
app.add_typer(calibrate, name="calibrate")
app.add_typer(payload, name="symbols")
app.add_typer(exporting, name="export")
app.add_typer(train, name="train")
app.add_typer(fetch, name="fetch")
for group in (app, train, fetch, calibrate, payload, exporting):
    for command in group.registered_commands:
        command.cls = Command


def main() -> None:
    """Entry point of the `diffjscc` command."""
    # A terminal without Unicode, or a name that is none, is no reason for a traceback.
    codecs.register_error("diffjscc", replace_unprintable)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="diffjscc")
    # What ends with the process need not be collected first: that takes a third of a second.
    atexit.register(gc.freeze)
    with writing_stdout():
        app()

"""`diffjscc info`, `diffjscc list`, `diffjscc convert` and `diffjscc publish`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from diffjscc.choices import Listed, TrainedChannel, WeightsFormat
from diffjscc.cli import paths
from diffjscc.cli.terminal import printed, report_errors, stdout


def info(
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """Show versions, device, and the cards of the bundled weights."""
    from diffjscc.cli.information import information  # noqa: PLC0415

    with report_errors():
        facts = information()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        import yaml  # noqa: PLC0415

        # Not by rich, which wraps at the width of the terminal.
        print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=10_000), end="")


def list_(
    kind: Annotated[Listed, typer.Argument(help="Names to list.")],
    weights: Annotated[
        str | None,
        paths.option(paths.place, help="rates: of these weights; compact unless given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as a JSON array.")] = False,
) -> None:
    """List the names that commands take: weights, rates, schemes, channels or configs."""
    with report_errors():
        if weights is not None and kind != "rates":
            raise ValueError(f"--weights {weights} is for rates, not for {kind}; leave it out")

        from diffjscc.cli.listing import entries  # noqa: PLC0415

        found = entries(kind, weights or "compact")
        if as_json:
            print(json.dumps([entry.as_dict() for entry in found], indent=2))
            return

        from rich.table import Table  # noqa: PLC0415

        table = Table("name", *found[0].facts, "meaning", box=None, pad_edge=False)
        for column in table.columns[:-1]:
            column.no_wrap = True
        for entry in found:
            facts = entry.facts.values()
            cells = [f"{one:.6g}" if isinstance(one, float) else str(one) for one in facts]
            table.add_row(*map(escape, (entry.name, *cells, entry.description)))
        stdout.print(table)


def convert(
    source: Annotated[
        str, paths.argument(paths.place, "Folder, or hub id[@revision], of a checkpoint.")
    ],
    destination: Annotated[
        Path, paths.argument(paths.output_folder, "Folder to write; it must not exist.")
    ],
    to: Annotated[WeightsFormat, typer.Option(help="The format to write.")] = "diffjscc",
    trained_channel: Annotated[
        TrainedChannel | None, typer.Option(help="WITT, SwinJSCC: channel of the training.")
    ] = None,
    trained_snr: Annotated[
        tuple[float, float] | None,
        typer.Option(help="WITT, SwinJSCC: lowest and highest SNR of the training, in dB."),
    ] = None,
    snr_adaptive: Annotated[
        bool | None,
        typer.Option(
            "--snr-adaptive/--no-snr-adaptive", help="WITT, SwinJSCC: adapts to the SNR or not."
        ),
    ] = None,
) -> None:
    """Convert the paper's released checkpoints to this package's weights, or back.

    A single file is one of WITT's or SwinJSCC's authors, a codec; what its name does not say of the
    training, the last three options do.
    """
    with report_errors():
        destination.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).is_file():
            from diffjscc.pretrained.convert import published  # noqa: PLC0415

            if to != "diffjscc":
                raise ValueError(f"--to {to} is for folders that were converted; remove it")
            training = published.Training(trained_channel, trained_snr, snr_adaptive)
            folder = published.convert_published(source, destination, training)
        else:
            for option, value in (
                ("--trained-channel", trained_channel),
                ("--trained-snr", trained_snr),
                ("--snr-adaptive", snr_adaptive),
            ):
                if value is not None:
                    raise ValueError(
                        f"{option} is for files of WITT and SwinJSCC, and {source} is no file; "
                        "remove it"
                    )
            from diffjscc.pretrained.convert.released import convert_released  # noqa: PLC0415

            folder = convert_released(source, destination, to)
        stdout.print(f"weights are in {printed(folder)}", soft_wrap=True)


def publish(
    weights: Annotated[str, paths.argument(paths.place, "Folder of weights, such as a run's.")],
    repo_id: Annotated[str, typer.Argument(help="Hub id to write, owner/name.")],
    results: Annotated[
        list[Path] | None,
        paths.option(paths.path, help="Results of these weights, for the card; may be repeated."),
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="Name of the measured images, for the card.")
    ] = "own images",
    licence: Annotated[
        str | None, typer.Option(help="As the hub calls it, such as apache-2.0.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to.")] = None,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "Upload weights with diffjscc",
    private: Annotated[bool, typer.Option(help="Hide a new repository.")] = False,
    propose: Annotated[bool, typer.Option(help="Open a pull request, not a commit.")] = False,
) -> None:
    """Write weights to the hub as they are, with a model card, in one commit.

    Log in once by `hf auth login`, or set HF_TOKEN.
    """
    with report_errors():
        from diffjscc.evaluation.results import read_results  # noqa: PLC0415
        from diffjscc.pretrained.diffjscc import DiffJSCC  # noqa: PLC0415
        from diffjscc.pretrained.pretrained import open_weights  # noqa: PLC0415
        from diffjscc.pretrained.publishing import Upload  # noqa: PLC0415

        upload = Upload(repo_id, message, private or None, None, revision, propose)
        upload.check()
        found = open_weights(weights)
        records = [record for place in results or () for record in read_results(place).records]
        scheme = DiffJSCC.from_pretrained(found, device="cpu")
        rows = [record.as_flat_dict() for record in records]
        card = scheme.model_card(repo_id, rows, dataset, licence)
        address = upload.send(found.folder, {"README.md": card.encode()})
        stdout.print(f"weights are at {printed(address)}", soft_wrap=True)

"""Options that several commands share: one declaration, one help text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from diffjscc.choices import RefinerName
from diffjscc.cli import paths
from diffjscc.cli.terminal import CHANNEL_NAMES, SCHEME_NAMES


def _one_of(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Complete words in a shell, by those that are known."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete


complete_scheme, complete_channel = _one_of(SCHEME_NAMES), _one_of(CHANNEL_NAMES)

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Images = Annotated[list[str], paths.argument(paths.place, "Files, folders or glob patterns.")]

# Of commands that send over an air of their own.
Rate = Annotated[str, typer.Option(help="Channel uses per pixel.")]
AssumedSNR = Annotated[float, typer.Option(help="Es/N0 in dB that the encoder assumes.")]
SentScheme = Annotated[
    str,
    typer.Option(
        help="deepjscc, a digital link such as bpg-ldpc, or my_module:make.",
        autocompletion=complete_scheme,
    ),
]
EncoderWeights = Annotated[
    str, paths.option(paths.place, help="Bundled name, folder or hub id; the encoder's part.")
]

# Of commands that receive from one.
ReceiverWeights = Annotated[
    list[str], paths.option(paths.place, help="Weights to receive with; may be repeated.")
]
ReceivedScheme = Annotated[
    str | None, typer.Option(help="Your own scheme at the sender, my_module:make.")
]
ReceiverRefiner = Annotated[
    RefinerName | None, typer.Option(help="none: the codec's images alone.")
]
SamplingSeed = Annotated[int, typer.Option(min=0, help="Seed of the sampling.")]

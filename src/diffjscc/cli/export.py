"""`diffjscc export onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from diffjscc.cli import paths
from diffjscc.cli.terminal import printed, report_errors, stdout


def export_onnx(
    weights: Annotated[
        str, paths.argument(paths.place, "Bundled name, folder or hub id (owner/name@revision).")
    ],
    output: Annotated[
        Path,
        paths.option(
            paths.output_folder, "--output", "-o", help="Folder to write; it must not exist."
        ),
    ],
) -> None:
    """Write encoder, decoder, VAE and denoiser as ONNX files, checked against PyTorch."""
    with report_errors():
        from diffjscc.export.onnx_files import export_onnx as export  # noqa: PLC0415

        output.parent.mkdir(parents=True, exist_ok=True)
        files = export(
            weights,
            output,
            lambda path: stdout.print(f"{printed(path.name)} equals PyTorch", soft_wrap=True),
        )
        stdout.print(f"{len(files)} networks are in {printed(output)}", soft_wrap=True)

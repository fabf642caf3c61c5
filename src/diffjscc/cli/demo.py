"""`diffjscc demo`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from diffjscc.cli import paths, shared
from diffjscc.cli.terminal import report_errors, stdout


def demo(
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is reached from other machines.")
    ] = "127.0.0.1",
    weights: Annotated[
        str, paths.option(paths.place, help="Bundled name, folder or hub id (owner/name@revision).")
    ] = "compact",
    device: shared.Device = "auto",
) -> None:
    """Show a page to play with: an image, a noisy channel, and what comes out."""
    with report_errors():
        from diffjscc.web.server import serve  # noqa: PLC0415

        with serve(weights, device, host, port) as address:
            stdout.print(f"the page is at {escape(address)} (stop with Ctrl-C)", soft_wrap=True)
            _wait()


def _wait() -> None:
    """Sleep until Ctrl-C."""
    import threading  # noqa: PLC0415

    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        stdout.print("stopped")

"""The demo's server: loopback unless asked otherwise, offline, with bounded queues and files."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffjscc.web.uploads import LARGEST_FILE

LONGEST_QUEUE = 100  # requests that wait; more are asked to come later


class DemoUnavailableError(ValueError):
    """The demo cannot be shown on this installation."""


@contextmanager
def serve(weights: str, device: str, host: str, port: int) -> Iterator[str]:
    """Serve the page until the context ends; its temporary files go with it.

    Args:
        weights: see `Engine`, as for `device`.
        device: where to compute.
        host: address to listen on; 127.0.0.1 is reached from this machine only.
        port: 1 to 65535; 0 takes a free one.

    Yields:
        The page's address.

    Raises:
        DemoUnavailableError: gradio is not installed.
        ValueError: the port is taken, there is no such host, weights or device.
    """
    number = free_port(host, port)
    with (
        tempfile.TemporaryDirectory(prefix="diffjscc-demo-") as folder,
        # gradio reads them, some at every request: no telemetry, no look-ups, our own folder.
        _environment(
            GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=folder, HF_HUB_DISABLE_TELEMETRY="1"
        ),
    ):
        try:
            from diffjscc.web.page import Page  # noqa: PLC0415 - takes seconds
            from diffjscc.web.style import CSS, theme  # noqa: PLC0415 - imports gradio, too
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "gradio":
                raise
            raise DemoUnavailableError(
                "the demo needs gradio, which is not installed: pip install 'diffjscc[demo]'"
            ) from None
        from diffjscc.web.engine import Engine  # noqa: PLC0415 - takes seconds

        page = Page(Engine(weights, device), Path(folder) / "shown")
        blocks = page.blocks.queue(max_size=LONGEST_QUEUE, default_concurrency_limit=1)
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=number,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            show_error=False,
            max_file_size=LARGEST_FILE,
            footer_links=[],
            ssr_mode=False,
            theme=theme(),
            css=CSS,
            state_session_capacity=100,
        )
        try:
            yield address
        finally:
            page.close()
            blocks.close(verbose=False)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables until the context ends."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def free_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0.

    Raises:
        ValueError: it is out of range or taken, or there is no such host.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is out of range; give 1 to 65535, or 0 for a free one")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            return int(listener.getsockname()[1])
    except PermissionError:
        raise ValueError(f"port {port} needs rights that you lack; give one above 1023") from None
    except socket.gaierror:
        raise ValueError(f"host {host!r} is not known here; give 127.0.0.1 or 0.0.0.0") from None
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}:{port} ({error.strerror}); give another --port"
        ) from None

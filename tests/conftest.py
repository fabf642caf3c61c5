"""Fixtures that several test files share."""

import copy
import http.server
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from huggingface_hub import constants
from torch import Tensor

from accelerator import forget_accelerator
from diffjscc.data.download import DownloadError
from diffjscc.data.fetch import fetch_kodak
from diffjscc.metrics import weights as metric_weights
from locations import ROOT
from released_checkpoint import released_checkpoint, released_config, released_state
from toy_hub import Hub

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Workers that share the cores: more threads than cores only wait for each other.
    _THREADS = max(1, _CORES // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(_THREADS))
    torch.set_num_threads(_THREADS)


def pytest_xdist_auto_num_workers() -> int:
    """Take at most four processes for `-n auto`: each needs about 1.5 GB."""
    return min(_CORES, 4)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start every test, its fixtures included, from the same state, whatever ran before it."""
    torch.manual_seed(0)
    forget_accelerator()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell how to repeat this order; with -q no header does."""
    seed = config.getoption("randomly_seed", None)
    if seed is not None:
        terminalreporter.write_line(f"--randomly-seed={seed} repeats this order")


@pytest.fixture(scope="session")
def kodak() -> Path:
    """The folder of the 24 Kodak images: beside the checkout, or in the cache, fetched once."""
    beside = Path(os.environ.get("DIFFJSCC_SHARED", ROOT.parent / "shared")) / "data" / "kodak"
    if beside.is_dir():
        return beside
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffjscc" / "kodak"
    try:
        fetch_kodak(cache, attempts=1, progress=False)
    except (DownloadError, OSError) as error:
        pytest.skip(f"needs the Kodak images and a network to fetch them once: {error}")
    return cache


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a miniature checkpoint in the released layout; not to be changed."""
    return released_checkpoint(tmp_path_factory.mktemp("released") / "mini")


@pytest.fixture(scope="session")
def converted(checkpoint: Path) -> Path:
    """What `checkpoint` becomes; not to be changed."""
    # Most test files go without diffusers and transformers, which take seconds to import.
    from diffjscc.pretrained.convert.released import convert_released  # noqa: PLC0415

    return convert_released(checkpoint, checkpoint.parent / "converted")


@pytest.fixture
def settings() -> dict[str, Any]:
    """What the config.yaml of `checkpoint` says, to be changed."""
    return copy.deepcopy(released_config())


@pytest.fixture
def state() -> dict[str, Tensor]:
    """The tensors of `checkpoint` by their names, to be exchanged."""
    return released_state()


@pytest.fixture
def hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub whose someone/weights is `checkpoint`, and empty caches."""
    Hub.folder, Hub.refusal, Hub.commits = checkpoint, None, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def empty_hub(hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    """A hub without files, and nobody logged in."""
    hub.folder = tmp_path / "hub"
    hub.folder.mkdir()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    return hub


@pytest.fixture
def weight_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user cache, no other place that holds weights, and a fresh process's memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(metric_weights.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(metric_weights, "PACKAGED", tmp_path / "none are packaged")
    monkeypatch.setattr(metric_weights, "_failures", {})
    return tmp_path / "diffjscc/metrics"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder on a local web server: the folder, its address, and the paths asked for."""
    asked: list[str] = []
    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *args: object) -> None:
            asked.append(self.path)

        def log_error(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `browser` puts what a page offers for download."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory, downloads: Path) -> "Iterator[WebDriver]":
    """A browser for all tests of pages; where there is none they are skipped, or fail on CI."""
    from browser import open_browser  # noqa: PLC0415

    with open_browser(tmp_path_factory.mktemp("profile"), downloads) as opened:
        yield opened

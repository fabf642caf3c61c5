"""Fixtures that several test files share."""

import copy
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from torch import Tensor

from released_checkpoint import released_checkpoint, released_config, released_state
from toy_hub import Hub

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers and pictures that lies beside a development checkout."""
    folder = Path(os.environ.get("DIFFJSCC_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder} (set DIFFJSCC_SHARED)")
    return folder


@pytest.fixture(scope="session")
def checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a miniature checkpoint in the released layout; not to be changed."""
    return released_checkpoint(shared, tmp_path_factory.mktemp("released") / "mini")


@pytest.fixture(scope="session")
def converted(checkpoint: Path) -> Path:
    """What `checkpoint` becomes; not to be changed."""
    # Most test files go without diffusers and transformers, which take seconds to import.
    from diffjscc.models.released import convert_released  # noqa: PLC0415

    return convert_released(checkpoint, checkpoint.parent / "converted")


@pytest.fixture
def settings(shared: Path) -> dict[str, Any]:
    """What the config.yaml of `checkpoint` says, to be changed."""
    return copy.deepcopy(released_config(shared))


@pytest.fixture
def state(shared: Path) -> dict[str, Tensor]:
    """The tensors of `checkpoint` by their names, to be exchanged."""
    return released_state(shared)


@pytest.fixture
def hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub whose someone/weights is `checkpoint`, and empty caches."""
    Hub.folder = checkpoint
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

"""Commands killed at any write: what has its name is whole, and the next run ends as one would."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from killed import needs_kill, run_killed
from released_checkpoint import released_checkpoint

MOMENTS = 10
RUN = """
from diffjscc.cli import app
def run(name):
    output = place + "/results/" + name
    app([word.replace("OUTPUT", output) for word in %r], standalone_mode=False)
"""


def photograph(path: Path, seed: int) -> None:
    coarse = np.random.default_rng(seed).uniform(0, 255, (8, 12, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC).save(path)


def same(folder: Path) -> None:
    """All runs left the same files; records differ in their seconds only."""
    whole = contents(folder / "whole")
    assert len(list(folder.iterdir())) == MOMENTS + 2
    for other in folder.iterdir():
        assert contents(other) == whole, other.name


def contents(folder: Path) -> dict[str, object]:
    return {
        path.relative_to(folder).as_posix(): timeless(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def timeless(path: Path) -> object:
    if path.suffix != ".json" or "safetensors" in path.name:
        return path.read_bytes()
    return without_seconds(json.loads(path.read_text()), path.parent.name)


def without_seconds(value: object, run: str) -> object:
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if key != "seconds"}
        return {key: without_seconds(each, run) for key, each in kept.items()}
    if isinstance(value, list):
        return [without_seconds(each, run) for each in value]
    return value.replace(run, "RUN") if isinstance(value, str) else value


@needs_kill
def test_transmit(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for seed, name in enumerate("ab"):
        photograph(tmp_path / "images" / f"{name}.png", seed)
    words = ["transmit", str(tmp_path / "images"), "--refiner", "none", "--snr", "1", "--snr", "7"]
    words += ["--json", "OUTPUT/records.json", "-o", "OUTPUT"]
    assert run_killed(tmp_path, RUN % words, MOMENTS) > MOMENTS
    same(tmp_path / "results")


@needs_kill
def test_convert(tmp_path: Path) -> None:
    released = released_checkpoint(tmp_path / "released")
    words = ["convert", str(released), "OUTPUT"]
    assert run_killed(tmp_path, RUN % words, MOMENTS) > MOMENTS
    same(tmp_path / "results")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None: ...


@needs_kill
def test_fetch(tmp_path: Path) -> None:
    (tmp_path / "served" / "train").mkdir(parents=True)
    rows = ["ImageID,Subset,OriginalURL,Title,OriginalMD5,Rotation"]
    for seed in range(6):
        photograph(tmp_path / "served" / "train" / f"{seed:016x}.jpg", seed)
        rows.append(f"{seed:016x},train,https://x/{seed},title,x,0.0")
    (tmp_path / "served" / "list.csv").write_text("\n".join(rows) + "\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served"))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    run = f"""
from diffjscc.data.fetch import fetch_openimages
def run(name):
    fetch_openimages(
        place + "/results/" + name, count=5, base_url={address!r},
        list_url={address!r} + "/list.csv", progress=False,
    )
"""
    try:
        assert run_killed(tmp_path, run, MOMENTS) > MOMENTS
    finally:
        server.shutdown()
        server.server_close()
    same(tmp_path / "results")

"""`diffjscc evaluate` killed at any write: nothing is lost, and the next run ends as one would."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjscc.evaluation.results import Results, read_results
from small_scheme import SCHEME

MOMENTS = 10

# Kills itself at the n-th change of the folder, for n spread over all of them, and runs again.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from diffjscc.configuration import check
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.sweep import Sweep
torch.set_num_threads(1)
place, moments = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, place)
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
SETTINGS = {
    "images": [place + "/images"],
    "schemes": [{"kind": "custom", "factory": "means_of_blocks:make"}],
    "rates": ["1/128"],
    "snrs_db": [1.0, 7.0],
    "metrics": ["psnr"],
    "features": ["squeezenet"],
    "shown": 1,
    "device": "cpu",
    "megapixels": 0.01,
}
last, seen = 0, 0

def change():
    global seen
    seen += 1
    if seen == last:
        os.kill(os.getpid(), signal.SIGKILL)

def watch(event, arguments):
    if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        if str(arguments[0]).startswith(place + "/results"):
            change()

def fsync(descriptor):
    change()  # written, but perhaps not on the disk
    synchronise(descriptor)

synchronise, os.fsync = os.fsync, fsync
sys.addaudithook(watch)

def run(name):
    config = check(SweepConfig, SETTINGS, "test")
    Sweep(config, Path(place) / "results" / name).prepare().run(lambda _: None)

def child(name, moment):
    global last, seen
    identity = os.fork()
    if identity == 0:
        last, seen, code = moment, 0, 1
        try:
            run(name)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(identity, 0)[1]

run("whole")
events = seen
for moment in range(moments):
    name = f"killed {moment}"
    killed = child(name, 1 + moment * (events - 1) // (moments - 1))
    print(os.WTERMSIG(killed), child(name, 0))
print(*(os.WTERMSIG(child("twice", events // 2)) for _ in range(2)), child("twice", 0))
print(events)
"""


def content(folder: Path) -> tuple[Results, list[dict[str, object]]]:
    results = read_results(folder)
    return results, [asdict(replace(record, seconds=0.0)) for record in results.records]


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_at_any_write_a_sweep_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        coarse = Image.fromarray(rng.uniform(0, 255, (8, 12, 3)).astype(np.uint8))
        smooth = coarse.resize((384, 256), Image.Resampling.BICUBIC)
        smooth.save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "means_of_blocks.py").write_text(SCHEME)
    (tmp_path / "results").mkdir()
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(MOMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    *killed, events = done.stdout.splitlines()
    assert killed == [*["9 0"] * MOMENTS, "9 9 0"], done.stderr
    assert int(events) > 40
    whole, records = content(tmp_path / "results" / "whole")
    files = {path.name for path in whole.folder.iterdir()}
    assert len(records) == 4
    assert len(whole.distances) == 2
    for folder in (tmp_path / "results").iterdir():
        results, again = content(folder)
        assert again == records, folder.name
        assert results.distances == whole.distances, folder.name
        assert results.kept == whole.kept, folder.name
        assert {path.name for path in folder.iterdir()} == files, folder.name
        for kept in whole.kept:
            assert (folder / kept.final).read_bytes() == (whole.folder / kept.final).read_bytes()

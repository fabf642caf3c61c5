"""Conversion killed at any moment, and of a file much larger than memory should be."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lightning_checkpoint import sparse
from peak import PEAK, needs_peak

MOMENTS = 10

# Kills itself at the n-th file that it opens, renames or removes, for n spread over all of them.
KILLED = """
import os, signal, sys
import torch
from diffjscc.pretrained.convert.released import convert_released
torch.set_num_threads(1)
source, target, moments = sys.argv[1], sys.argv[2], int(sys.argv[3])
EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod")

def converted(last, write):
    seen = 0
    def watch(event, arguments):
        nonlocal seen
        seen += event in EVENTS
        if event in EVENTS and seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    convert_released(source, target if last else target + "-whole")
    if write is not None:
        os.write(write, str(seen).encode())

def child(last, write=None):
    identity = os.fork()
    if identity == 0:
        try:
            converted(last, write)
        finally:
            os._exit(0)
    return os.waitpid(identity, 0)[1]

reader, writer = os.pipe()
child(0, writer)
events = int(os.read(reader, 20))
for moment in range(moments):
    status = child(1 + moment * (events - 1) // moments)
    print(os.WTERMSIG(status), os.path.exists(target))
convert_released(source, target)
"""


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_at_any_moment_it_leaves_nothing_half_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    target = tmp_path / "weights"
    command = [sys.executable, "-c", KILLED, str(checkpoint), str(target), str(MOMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["9 False"] * MOMENTS  # killed, and nothing there
    whole, again = tree(tmp_path / "weights-whole"), tree(target)
    assert again.keys() == whole.keys()
    assert again == whole
    others = [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert sorted(others) == ["weights", "weights-whole"]


CONVERTING = (
    PEAK
    + """
import sys
from diffjscc.pretrained.convert.released import convert_released
before = peak()
convert_released(sys.argv[1], sys.argv[2])
print((peak() - before) / 1024)
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs sparse files")
@needs_peak
def test_an_optimiser_of_a_gigabyte_takes_no_memory(checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.mkdir()
    (source / "config.yaml").write_bytes((checkpoint / "config.yaml").read_bytes())
    with zipfile.ZipFile(checkpoint / "model.ckpt") as archive:
        members: dict[str, bytes | int] = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(members)).partition("/")[0]
    # Before the weights; its zeros take no disk.
    sparse(source / "model.ckpt", {f"{root}/data/optimiser": 1 << 30, **members})
    command = [sys.executable, "-c", CONVERTING, str(source), str(tmp_path / "weights")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 300  # MiB

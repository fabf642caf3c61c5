"""Commands that are killed at any change of their output, and run again, for tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

needs_kill = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

# Runs the function `run(name)`, which writes PLACE/results/NAME, whole once; then kills it at the
# n-th change of that folder, for n spread over all changes, and runs it again; then kills it twice
# in one place. Changes in threads count too.
HARNESS = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
place, moments = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, place)
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
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

%s

run("whole")
events, ends = seen, []
for moment in range(moments):
    name = f"killed {moment}"
    killed = child(name, 1 + moment * (events - 1) // (moments - 1))
    ends.append([os.WTERMSIG(killed), child(name, 0)])
middle = max(1, events // 2)
ends.append([*(os.WTERMSIG(child("twice", middle)) for _ in range(2)), child("twice", 0)])
Path(place, "ends.json").write_text(json.dumps([events, *ends]))
"""


def run_killed(place: Path, run: str, moments: int) -> int:
    """Run Python source that defines `run(name)` whole, killed and again.

    The results lie in `place`/results: "whole", "killed 0" … and "twice".

    Returns:
        The number of changes of an uninterrupted run.
    """
    (place / "results").mkdir()
    command = [sys.executable, "-c", HARNESS % run, str(place), str(moments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    events, *ends = json.loads((place / "ends.json").read_text())
    assert ends == [*[[9, 0]] * moments, [9, 9, 0]], done.stderr
    return int(events)

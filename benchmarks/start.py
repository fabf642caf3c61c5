"""CPU seconds of whole processes that send one 768x512 image or load the weights.

    python benchmarks/start.py [--quick] [-o start.json]

Processes run in turns with `import torch`, and are given as multiples of it too.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import Figure, Figures, main
from sweep import smooth_image

TURNS = 3
TORCH = "import torch"
SEND = (
    "import sys; from diffjscc.cli import main;"
    "sys.argv = ['diffjscc', 'transmit', {image!r}, '--refiner', {refiner!r}, '-o', {output!r}];"
    "main()"
)
LOAD = "from diffjscc import DiffJSCC; DiffJSCC.from_pretrained('compact')"


def seconds(program: str) -> float:
    """CPU seconds of a process, user's and system's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages are compiled once
    subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(quick: bool) -> Figures:
    """Time the processes in turns, after one turn to warm up unless quick."""
    with tempfile.TemporaryDirectory() as folder:
        image, output = Path(folder) / "smooth.png", Path(folder) / "sent"
        smooth_image(image)
        send = {"image": str(image), "output": str(output)}
        programs = {
            TORCH: TORCH,
            "from_pretrained": LOAD,
            "transmit, codec alone": SEND.format(**send, refiner="none"),
            "transmit, with the receiver": SEND.format(**send, refiner="diffusion"),
        }
        turns = 1 if quick else TURNS + 1
        taken = [{name: seconds(text) for name, text in programs.items()} for _ in range(turns)]
    counted = taken if quick else taken[1:]
    figures = {}
    for name in programs:
        figures[name] = Figure(statistics.median(turn[name] for turn in counted), "CPU s")
        if name != TORCH:
            ratios = statistics.median(turn[name] / turn[TORCH] for turn in counted)
            figures[f"{name}, relative"] = Figure(ratios, f"x {TORCH}")
    return figures


if __name__ == "__main__":
    main(__doc__, measure)

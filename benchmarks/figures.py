"""Shape of the benchmarks of speed: named figures with units, and the command line of each.

Times on a CPU are seconds of the process on all cores, which other work on the machine hardly
changes; images that take 1 CPU second come out in half of that on two idle cores, at best.

A benchmark has a function `measure`; `run.py` calls those of all, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

LIBRARIES = ("diffjscc", "torch", "diffusers", "numpy", "sionna-no-rt")


class Figure(NamedTuple):
    """A number that was measured.

    Rates, whose units have a "/", are better when larger, all others when smaller.
    """

    value: float
    unit: str

    @property
    def rises(self) -> bool:
        """Return whether larger is better."""
        return "/" in self.unit

    def __str__(self) -> str:
        digits = ",.0f" if self.value >= 100 else ".3g"
        return f"{self.value:{digits}} {self.unit}"


# By name; a name that begins with "peer: " is another library's, measured beside ours.
Figures = dict[str, Figure]
# Called with whether to hurry.
Measure = Callable[[bool], Figures]


def machine() -> dict[str, Any]:
    """Describe what figures were measured on."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    model = next((s for s in _lines("/proc/cpuinfo") if s.startswith("model name")), "")
    return {
        "processor": model.partition(": ")[2] or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the process on all cores, the least of some repeats after one to warm up.

    Other work on the machine hardly enters.
    """
    work()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def as_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        name: {"value": round(figure.value, 5), "unit": figure.unit}
        for name, figure in figures.items()
    }


def from_json(stored: Mapping[str, Any]) -> Figures:
    return {name: Figure(one["value"], one["unit"]) for name, one in stored.items()}


def write(path: Path, report: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(report, indent=1) + "\n")


def main(doc: str, measure: Measure) -> None:
    """Run one benchmark from the command line: print its figures, and write them if asked to."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer figures and repeats")
    parser.add_argument("-o", "--output", type=Path, help="JSON")
    arguments = parser.parse_args()
    figures = measure(arguments.quick)
    for name, figure in figures.items():
        print(f"{name:50} {figure}")
    if arguments.output:
        write(arguments.output, {"machine": machine(), "figures": as_json(figures)})

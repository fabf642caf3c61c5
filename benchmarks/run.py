"""All benchmarks of speed that this machine can run, against the figures that are stored.

    python benchmarks/run.py [--quick] [-o benchmark.json] [--store]        (make benchmark)

Each runs in a process of its own. Ratios above 1 are improvements: times and memory that became
smaller, or rates that became larger. They compare two runs on one machine; figures of another
machine are shown with a warning. --store makes this run the one that later ones are compared with.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from figures import Figure, Figures, as_json, from_json, machine, write

NAMES = (*("start", "speed", "receiver", "unet", "full_size", "sweep", "large", "ldpc", "radio"),)
STORED = Path(__file__).parent / "results" / "benchmark.json"
MOST_SECONDS = 1200
PEER = "peer: "


def run_one(name: str, quick: bool) -> Figures | str:
    """Figures of a benchmark, or the reason why there are none."""
    command = [sys.executable, __file__, "--one", name, *(["--quick"] if quick else [])]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    if name == "radio":  # measured on one core; NumPy has read this before the module can say so
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {MOST_SECONDS} s"
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    return from_json(json.loads(done.stdout.splitlines()[-1]))


def table_of(found: dict[str, Figures], before: dict[str, Figures]) -> Table:
    """Figures, beside their ratios to those before and to other libraries."""
    table = Table("benchmark", "figure", "now", "stored", "ratio", "to its peer", box=None)
    for name, figures in found.items():
        for label, figure in figures.items():
            old = before.get(name, {}).get(label)
            peer = figures.get(PEER + label)
            columns = [None if one is None else ratio(figure, one) for one in (old, peer)]
            table.add_row(
                name,
                label,
                str(figure),
                "" if old is None else str(old),
                *("" if one is None else f"{one:.2f}" for one in columns),
            )
    return table


def ratio(now: Figure, then: Figure) -> float:
    """How many times as good a figure is as another."""
    better, worse = (now, then) if now.rises else (then, now)
    return float(better.value / worse.value) if worse.value else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmark.json"))
    parser.add_argument("--store", action="store_true", help=f"also write {STORED.name}")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        figures = importlib.import_module(arguments.one).measure(arguments.quick)
        print(json.dumps(as_json(figures)))
        return
    console, start = Console(), time.perf_counter()
    if not console.is_terminal:
        console = Console(width=120)
    found: dict[str, Figures] = {}
    left_out: dict[str, str] = {}
    for name in arguments.only:
        with console.status(f"{name} …"):
            result = run_one(name, arguments.quick)
        if isinstance(result, str):
            left_out[name] = result
        else:
            found[name] = result
    report = {
        "machine": machine(),
        "quick": arguments.quick,
        "seconds": round(time.perf_counter() - start),
        "figures": {name: as_json(figures) for name, figures in found.items()},
        "left_out": left_out,
    }
    stored = json.loads(STORED.read_text()) if STORED.exists() else {"figures": {}}
    before = {name: from_json(figures) for name, figures in stored["figures"].items()}
    console.print(table_of(found, before))
    for name, reason in left_out.items():
        console.print(f"[yellow]left out:[/] {name}: {reason}")
    if stored.get("machine", {}).get("processor") not in (None, report["machine"]["processor"]):
        console.print(f"[yellow]stored figures are of a {stored['machine']['processor']}[/]")
    for path in (arguments.output, *([STORED] if arguments.store else [])):
        write(path, report)
        console.print(f"written: {path}")


if __name__ == "__main__":
    main()

"""Seconds per megapixel and peak memory of transmissions of large images, without metrics.

    python benchmarks/large.py [--megapixels 0.4 12 24] [--refiners none diffusion] [-o large.json]

Each size is a process of its own, for its own peak (Linux). Processor seconds count all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from diffjscc import AWGN
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.schemes.loader import load_scheme
from diffjscc.schemes.options import RefinerOptions
from figures import Figure, Figures


def transmit(megapixels: float, refiner: str) -> dict[str, float]:
    """Transmit one image of noise, 4:3, at R = 1/128 and 1 dB."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    size = (height, round(height * 4 / 3))
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    device = torch.device("cpu")
    scheme = load_scheme("compact", "1/128", refiner, RefinerOptions(), "cpu")
    link = Link("", scheme, AWGN(1.0), "awgn", 1.0, 0, MetricEvaluator(()), device)
    start, processor = time.perf_counter(), time.process_time()
    link.transmit([SourceImage("noise", image)], [0])
    status = Path("/proc/self/status").read_text().split()
    millions = size[0] * size[1] / 1e6
    return {
        "seconds_per_megapixel": round((time.perf_counter() - start) / millions, 2),
        "processor_seconds_per_megapixel": round((time.process_time() - processor) / millions, 2),
        "peak_mib": int(status[status.index("VmHWM:") + 1]) // 1024,
    }


def run(megapixels: float, refiner: str) -> dict[str, float]:
    """Transmit an image in a process of its own."""
    child = [sys.executable, __file__, "--child", "--megapixels", str(megapixels)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    output = subprocess.run(
        [*child, "--refiners", refiner],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    figures: dict[str, float] = json.loads(output.stdout.splitlines()[-1])
    return figures


def measure(quick: bool) -> Figures:
    """Time large images, and extend their memory to 48 megapixels; nothing if quick."""
    figures: Figures = {}
    for refiner, sizes in {} if quick else {"none": (3.0, 12.0), "diffusion": (3.0, 6.0)}.items():
        few, many = (run(size, refiner) for size in sizes)
        name = f"{sizes[1]:.0f} megapixels, {'codec' if refiner == 'none' else 'receiver'}"
        per_pixel = many["processor_seconds_per_megapixel"]
        figures[f"{name}, a megapixel"] = Figure(per_pixel, "CPU s")
        figures[f"{name}, peak"] = Figure(many["peak_mib"], "MiB")
        slope = (many["peak_mib"] - few["peak_mib"]) / (sizes[1] - sizes[0])
        peak = many["peak_mib"] + slope * (48 - sizes[1])
        figures[f"{name}, peak extended to 48"] = Figure(peak, "MiB")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", nargs="+", type=float, default=[0.4, 12.0, 24.0])
    choices = ("none", "diffusion")
    parser.add_argument("--refiners", nargs="+", choices=choices, default=choices)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(transmit(given.megapixels[0], given.refiners[0])))
        return
    results = []
    for refiner in given.refiners:
        for size in given.megapixels:
            results.append({"megapixels": size, "refiner": refiner} | run(size, refiner))
            print(json.dumps(results[-1]), flush=True)
    if given.output:
        given.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

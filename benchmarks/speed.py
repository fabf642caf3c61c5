"""CPU seconds and memory to encode and decode a 768x512 image, CompactJSCC beside DeepJSCC.

    python benchmarks/speed.py [--quick] [-o speed.json]

DeepJSCC has the paper's size with random weights: they do not change its speed.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

import torch

from diffjscc import AWGN, DiffJSCC, Scheme
from diffjscc.pretrained.build import build_codec
from figures import Figure, Figures, main

REPEATS = 5
UNITS = {"s": "CPU s", "mib": "MiB"}


def scheme_of(name: str) -> Scheme:
    """The scheme to time, at R = 1/128."""
    if name == "CompactJSCC":
        return DiffJSCC.from_pretrained("compact", "1/128", refiner=None, device="cpu")
    codec = build_codec({"class": "DeepJSCC"}).eval().requires_grad_(False)
    return Scheme(codec, codec.rates[0])


@torch.no_grad()
def time_codec(name: str) -> dict[str, float]:
    """Median CPU seconds to encode and to decode, and the process's peak memory in MiB."""
    torch.manual_seed(0)
    scheme, images = scheme_of(name), torch.rand(1, 3, 512, 768)
    encode, decode = [], []
    for _ in range(REPEATS + 2):
        start = time.process_time()
        symbols = scheme.encode(images, 1.0)
        sent = time.process_time()
        received = AWGN(1.0)(symbols)
        arrived = time.process_time()
        scheme.decode(received)
        encode.append(sent - start)
        decode.append(time.process_time() - arrived)
    middle = (REPEATS + 1) // 2  # the first two warm up
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "encode_s": round(sorted(encode[2:])[middle], 4),
        "decode_s": round(sorted(decode[2:])[middle], 4),
        "peak_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
    }


def measure(quick: bool) -> Figures:
    """Time both, each in a process of its own, for its own peak; the first alone if quick."""
    figures: Figures = {}
    for name in ("CompactJSCC", *(() if quick else ("DeepJSCC",))):
        child = [sys.executable, __file__, "--codec", name]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        output = subprocess.run(child, capture_output=True, text=True, check=True, env=environment)
        for key, value in json.loads(output.stdout).items():
            label, _, unit = key.rpartition("_")
            figures[f"{name}, {label}"] = Figure(value, UNITS[unit])
    return figures


if __name__ == "__main__":
    if "--codec" in sys.argv:
        print(json.dumps(time_codec(sys.argv[-1])))
    else:
        main(__doc__, measure)

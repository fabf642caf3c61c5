"""Seconds and memory to encode and decode a 768x512 image, CompactJSCC beside DeepJSCC.

    python benchmarks/speed.py [-o speed.json]

DeepJSCC has the paper's size with random weights: they do not change its speed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from diffjscc import AWGN, DiffJSCC, Scheme
from diffjscc.pretrained.build import build_codec

REPEATS = 10


def scheme_of(name: str) -> Scheme:
    """The scheme to time, at R = 1/128."""
    if name == "CompactJSCC":
        return DiffJSCC.from_pretrained("compact", "1/128", refiner=None, device="cpu")
    codec = build_codec({"class": "DeepJSCC"}).eval().requires_grad_(False)
    return Scheme(codec, codec.rates[0])


@torch.no_grad()
def time_codec(name: str) -> dict[str, float]:
    """Median seconds to encode and to decode, and the process's peak memory in MiB."""
    torch.manual_seed(0)
    scheme, images = scheme_of(name), torch.rand(1, 3, 512, 768)
    encode, decode = [], []
    for _ in range(REPEATS + 2):
        start = time.perf_counter()
        symbols = scheme.encode(images, 1.0)
        sent = time.perf_counter()
        received = AWGN(1.0)(symbols)
        arrived = time.perf_counter()
        scheme.decode(received)
        encode.append(sent - start)
        decode.append(time.perf_counter() - arrived)
    middle = (REPEATS + 1) // 2  # the first two warm up
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "encode_s": round(sorted(encode[2:])[middle], 4),
        "decode_s": round(sorted(decode[2:])[middle], 4),
        "peak_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", choices=("CompactJSCC", "DeepJSCC"))
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.codec:
        print(json.dumps(time_codec(arguments.codec)))
        return
    results = {}
    for name in ("CompactJSCC", "DeepJSCC"):  # each in a process of its own, for its own peak
        child = [sys.executable, __file__, "--codec", name]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        output = subprocess.run(child, capture_output=True, text=True, check=True, env=environment)
        results[name] = json.loads(output.stdout)
    seconds = {name: r["encode_s"] + r["decode_s"] for name, r in results.items()}
    report = {
        "image": "768x512",
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": str(torch.__version__),
        "results": results,
        "ratio": round(seconds["DeepJSCC"] / seconds["CompactJSCC"], 2),
    }
    print(json.dumps(report, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Images per second of a sweep: the codec alone and the default receiver, on this machine.

    python benchmarks/sweep.py [-o sweep.json]

One image of 768x512 is sent five times, at R = 1/128 and 1 dB: each transmission for itself; as
a sweep sends the repeats of an image, which share its encoding; and likewise, but received as
one batch. Then the whole of a sweep's work on it, all metrics included.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from diffjscc.choices import SchemeKind
from diffjscc.configuration import check
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.sweep import Sweep
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.schemes.channel import ChannelConfig

REPEATS = 5
ROUNDS = 7
KINDS: tuple[SchemeKind, ...] = ("deepjscc", "diffjscc")


def best_rate(work: Callable[[], None]) -> float:
    """Transmissions per second, at the best of some rounds after one to warm up."""
    seconds = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(REPEATS / min(seconds[1:]), 3)


def link_of(kind: SchemeKind) -> Link:
    refiner = None if kind == "deepjscc" else "default"
    scheme = DiffJSCC.from_pretrained("compact", "1/128", refiner=refiner, device="cpu")
    channel, none = ChannelConfig(), MetricEvaluator(())
    return Link(kind, scheme, channel.at(1.0), channel.label, 1.0, 0, none, torch.device("cpu"))


def rate_of_a_sweep(kind: SchemeKind, image: Path) -> float:
    """Transmissions per second of `diffjscc evaluate` after loading, with its default metrics."""
    values = {"images": [str(image)], "schemes": [{"kind": kind}], "repeats": REPEATS}
    with tempfile.TemporaryDirectory() as folder:
        config = check(SweepConfig, values | {"shown": 0}, "benchmark")
        sweep = Sweep(config, Path(folder) / "out").prepare()
        start = time.perf_counter()
        sweep.run(lambda _: None)
        return round(REPEATS / (time.perf_counter() - start), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 32, 48, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (512, 768), mode="bicubic").clamp(0, 1)
    image = SourceImage("smooth", smooth[0])
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smooth.png"
        pixels = smooth[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        Image.fromarray(pixels).save(file)
        for kind in KINDS:
            link = link_of(kind)
            results[kind] = {
                "one by one": best_rate(
                    lambda link=link: [link.transmit([image], [r]) for r in range(REPEATS)]
                ),
                "encoded once": best_rate(lambda link=link: link.transmit([image], range(REPEATS))),
                "encoded once, received at once": best_rate(
                    lambda link=link: link.transmit([image], range(REPEATS), REPEATS)
                ),
                "with all metrics": rate_of_a_sweep(kind, file),
            }
    report = {
        "unit": "transmissions of 768x512 per second",
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": str(torch.__version__),
        "results": results,
    }
    print(json.dumps(report, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

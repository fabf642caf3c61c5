"""Images per CPU second of a sweep: the codec alone and the default receiver, on this machine.

    python benchmarks/sweep.py [--quick] [-o sweep.json]

One image of 768x512 is sent five times, at R = 1/128 and 1 dB: each transmission for itself; as
a sweep sends the repeats of an image, which share its encoding; and likewise, but received as
one batch. Then the whole of a sweep's work on it, all metrics included.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from diffjscc.choices import SchemeKind
from diffjscc.configuration import check
from diffjscc.data.images import save_image
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.sweep import Sweep
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.schemes.channel import ChannelConfig
from figures import Figure, Figures, main

REPEATS = 5
SENT = range(REPEATS)
ROUNDS = 2
UNIT = "images/CPU s"
KINDS: tuple[SchemeKind, ...] = ("deepjscc", "diffjscc")


def best_rate(work: Callable[[], object]) -> float:
    """Transmissions per CPU second, at the best of some rounds after one to warm up."""
    seconds = []
    for _ in range(ROUNDS + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return round(REPEATS / min(seconds[1:]), 3)


def link_of(kind: SchemeKind) -> Link:
    refiner = None if kind == "deepjscc" else "default"
    scheme = DiffJSCC.from_pretrained("compact", "1/128", refiner=refiner, device="cpu")
    channel, none = ChannelConfig(), MetricEvaluator(())
    return Link(kind, scheme, channel.at(1.0), channel.label, 1.0, 0, none, torch.device("cpu"))


def rate_of_a_sweep(kind: SchemeKind, image: Path) -> float:
    """Transmissions per CPU second of `diffjscc evaluate`, loaded, with its default metrics."""
    values = {"images": [str(image)], "schemes": [{"kind": kind}], "repeats": REPEATS}
    with tempfile.TemporaryDirectory() as folder:
        config = check(SweepConfig, values | {"shown": 0}, "benchmark")
        sweep = Sweep(config, Path(folder) / "out").prepare()
        start = time.process_time()
        sweep.run(lambda _: None)
        return round(REPEATS / (time.process_time() - start), 3)


def smooth_image(path: Path) -> Tensor:
    """Write a smooth image of 768x512 pixels; return it, [3, H, W] in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 32, 48, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (512, 768), mode="bicubic").clamp(0, 1)
    save_image(smooth[0], path)
    return smooth[0]


def measure(quick: bool) -> Figures:
    """Time the ways to send; if quick, the sweeps alone."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smooth.png"
        image = SourceImage("smooth", smooth_image(file))
        for kind in KINDS:
            link = link_of(kind)
            ways: dict[str, Callable[[], object]] = {
                "one by one": lambda link=link: [link.transmit([image], [r]) for r in SENT],
                "encoded once": lambda link=link: link.transmit([image], SENT),
                "received at once": lambda link=link: link.transmit([image], SENT, REPEATS),
            }
            for way, work in ({} if quick else ways).items():
                figures[f"{kind}, {way}"] = Figure(best_rate(work), UNIT)
            figures[f"{kind}, with all metrics"] = Figure(rate_of_a_sweep(kind, file), UNIT)
    return figures


if __name__ == "__main__":
    main(__doc__, measure)

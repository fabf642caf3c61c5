"""Toy results with images that tell by their pixels which they are."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from diffjscc.evaluation.lines import write_lines
from diffjscc.evaluation.records import KeptImages
from toy_results import toy_records, toy_results

MARKUP = '<b>x</b>&amp;"</script><script>document.title = "owned"</script>'
WIDTH, HEIGHT = 320, 200
COLOURS = {
    "original": (250, 80, 60),
    "deepjscc": (60, 220, 80),
    "initial": (70, 90, 250),
    "final": (240, 220, 40),
    "uncertainty": (200, 200, 200),
}


def stripes(kind: str, brightness: float = 1.0) -> np.ndarray:
    """Stripes of 20 px, each brighter than the one to its left: uint8 [200, 320, 3]."""
    steps = brightness * (0.3 + 0.7 * (np.arange(WIDTH) // 20) / (WIDTH // 20))
    levels = steps[None, :, None] * np.array(COLOURS[kind])
    return np.broadcast_to(levels, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def striped_results(folder: Path, points: Sequence[tuple[str, float]] | None = None) -> Path:
    """Toy results; stripes of kodim01 at two points and of an image whose name is markup at one.

    The images of the second point are half as bright, those of the other image a quarter.

    Args:
        folder: to write.
        points: rates and SNRs that there are rows of; all by default.
    """
    rows = [
        replace(row, image=MARKUP if row.image == "kodim03" else row.image)
        for row in toy_records()
        if points is None or row.point[2:] in points
    ]
    toy_results(folder, rows)
    lines = []
    for number, (image, rate, snr_db, brightness) in enumerate(
        (
            ("kodim01", "1/128", 1.0, 1.0),
            ("kodim01", "1/64", 7.0, 0.5),
            (MARKUP, "1/128", 1.0, 0.25),
        )
    ):
        names = {kind: f"images/{number}-{kind}.png" for kind in COLOURS}
        for kind, name in names.items():
            Image.fromarray(stripes(kind, brightness)).save(folder / name)
        point = ("awgn", rate, snr_db, image, 0, names["original"])
        lines.append(KeptImages("deepjscc", *point, names["deepjscc"]))
        uncertainty = names["uncertainty"] if number == 0 else None
        lines.append(KeptImages("diffjscc", *point, names["final"], names["initial"], uncertainty))
    write_lines(folder / "images.jsonl", lines)
    return folder

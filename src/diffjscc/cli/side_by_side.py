"""One image by several schemes over the same noise, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffjscc.cli.jobs import Sent, metrics_text
from diffjscc.data.images import save_image
from diffjscc.data.search import safe_stem
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.records import Absent, Record
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics.catalogue import MetricInfo
from diffjscc.protocols import InfeasibleError
from diffjscc.report.panels import panel, side_by_side

MOST_BESIDE = 4
LONGEST_SCHEME = 60  # bytes of its name in those of files
BLANK = 235  # of 255, a grey where there is no image


@dataclass(frozen=True)
class Comparison:
    """Files to send by each of several schemes.

    Attributes:
        links: one a scheme, over the same channel, with the same seed.
        snr_db: nominal SNR of the links, mean Es/N0.
        repeats: transmissions per image and scheme.
        output: folder of the images.
        suffix: of the files' names, after the image's, see `choice.Point`.
    """

    links: Sequence[Link]
    snr_db: float
    repeats: int
    output: Path
    suffix: str = ""

    def files(self, stem: str) -> list[Path]:
        """STEM-SCHEME.png (STEM-SCHEME-2.png, …) of each scheme, and STEM-side-by-side.png."""
        stem += self.suffix
        names = [
            self._name(stem, link, repeat) for link in self.links for repeat in range(self.repeats)
        ]
        return [self.output / f"{name}.png" for name in (*names, f"{stem}-side-by-side")]

    def send(self, source: SourceImage, stem: str, sent: Sent) -> list[Record | Absent]:
        """Transmit an image by every scheme; `sent` gets the record of each transmission.

        What a scheme cannot send is left blank in the image of all of them.
        """
        stem += self.suffix
        height, width = source.size
        lines: list[Record | Absent] = []
        panels = [panel(source.stored)]
        words = [f"original, {width}x{height}"]
        for link in self.links:
            for repeat in range(self.repeats):
                place = self.output / f"{self._name(stem, link, repeat)}.png"

                def save(kind: str, _: int, levels: Tensor, place: Path = place) -> None:
                    if kind == "final":
                        save_image(levels, place)

                try:
                    (delivery,) = link.transmit([source], [repeat], arrived=save)
                except InfeasibleError as error:
                    point = link.point(self.snr_db)
                    lines.append(Absent(*point, source.name, str(error)))
                    panels.append(panel(torch.full(source.stored.shape, BLANK, dtype=torch.uint8)))
                    words.append(f"{link.name} cannot send it: {error}")
                    for _ in range(repeat, self.repeats):
                        sent(None)
                    break
                lines.append(delivery.record)
                if repeat == 0:
                    panels.append(panel(delivery.final_levels))
                    words.append(label(delivery.record, link.evaluator.infos))
                sent(delivery.record)
        rows = math.ceil(len(panels) / MOST_BESIDE)
        sheet = side_by_side(panels, words, math.ceil(len(panels) / rows))
        save_image(sheet, self.output / f"{stem}-side-by-side.png")
        return lines

    @staticmethod
    def _name(stem: str, link: Link, repeat: int) -> str:
        scheme = safe_stem(link.name.replace(", ", "-"), LONGEST_SCHEME)
        return f"{stem}-{scheme}" if repeat == 0 else f"{stem}-{scheme}-{repeat + 1}"


def label(record: Record, metrics: Sequence[MetricInfo]) -> str:
    """Label a scheme's image."""
    outage = "outage, " if record.outage else ""
    link = f"{record.channel_uses} symbols at {record.snr_db:.1f} dB"
    return f"{record.scheme}: {outage}{link}, {metrics_text(record.metrics, metrics)}"

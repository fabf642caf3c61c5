"""Sheets of kept images, and of the captions that receivers were conditioned on."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from diffjscc.choices import PlotFormat
from diffjscc.data.images import load_image
from diffjscc.data.search import natural_key
from diffjscc.evaluation.records import KeptImages, Record
from diffjscc.evaluation.results import Results
from diffjscc.evaluation.statistics import metrics_of
from diffjscc.metrics.catalogue import MetricInfo
from diffjscc.metrics.evaluator import Metrics
from diffjscc.report.plots import FORMATS, LETTER, Condition, house_style, save

# All in inches: a sheet is as wide as a page of a journal, or wider where it has many columns.
PAGE_WIDTH = 7.2
NARROWEST_COLUMN = 1.4
MOST_IMAGES = 8  # below each other
LABEL, HEADER, GAP = 0.2, 0.36, 0.06
# Dots per inch of a sheet: as many as its images have pixels, within these.
LEAST_DPI = 200
MOST_DPI = 400  # five Kodak images beside each other keep most of their pixels
LINE = 0.145
MOST_LINES = 60  # of a table, on a page

Entries = dict[tuple[str, int], tuple[Tensor, str]]


def image_sheets(results: Sequence[Results], output: Path, name: str) -> list[Path]:
    """Write a PNG per channel, rate and SNR: a row per kept transmission, its images in columns.

    The columns are the original, then each scheme's initial image, unless another column shows
    the same one, and its final one, with metrics below.

    Args:
        results: some of which kept images.
        output: folder for the files; it must exist.
        name: the files' stem; conditions, and the page from the second on, follow.

    Raises:
        ValueError: no images were kept, or a kept one cannot be read.
    """
    conditions: dict[Condition, dict[tuple[str, int], list[tuple[Results, KeptImages]]]] = {}
    for result in results:
        for kept in result.kept:
            place = Condition(kept.channel, kept.nominal_rate, kept.nominal_snr_db)
            sent = conditions.setdefault(place, {}).setdefault((kept.image, kept.repeat), [])
            sent.append((result, kept))
    if not conditions:
        folders = ", ".join(str(result.folder) for result in results)
        raise ValueError(
            f"{folders} kept no images, but {name} is a sheet of images; run it again and keep some"
        )
    written = []
    for place, by_sent in conditions.items():
        keys = list(by_sent)
        for number, first in enumerate(range(0, len(keys), MOST_IMAGES), 1):
            page = {key: by_sent[key] for key in keys[first : first + MOST_IMAGES]}
            columns = _columns(page)
            figure = _image_sheet(columns, place.title())
            stem = f"{name}{place.suffix(conditions)}" + (f"-{number}" if number > 1 else "")
            written += save(figure, output, stem, ("png",), _sheet_dpi(columns))
    return written


def _columns(sent: dict[tuple[str, int], list[tuple[Results, KeptImages]]]) -> dict[str, Entries]:
    """By header: the images [3, H, W] of each transmission, and the text below them."""
    columns: dict[str, Entries] = {"original": {}}
    for key, group in sent.items():
        finals = [load_image(result.folder / kept.final) for result, kept in group]
        seen = list(finals)
        for final, (result, kept) in zip(finals, group, strict=True):
            record, infos = result.record_of(kept), result.setup.metrics
            if key not in columns["original"]:
                original = load_image(result.folder / kept.original)
                columns["original"][key] = original, Path(kept.image).name
            if kept.initial is not None and record.initial_metrics is not None:
                initial = load_image(result.folder / kept.initial)
                if not any(torch.equal(initial, other) for other in seen):
                    seen.append(initial)
                    header = f"{kept.scheme}: initial image"
                    text = _metrics_text(record.initial_metrics, infos)
                    columns.setdefault(header, {})[key] = initial, text
            lost = "outage: " if record.outage else ""
            text = f"{lost}{_metrics_text(record.metrics, infos)}"
            columns.setdefault(kept.scheme, {})[key] = final, text
    return columns


def _metrics_text(metrics: Metrics, infos: Sequence[MetricInfo]) -> str:
    """List the metrics for which there is room; a unit stands for its metric."""
    values = [(info, metrics.get(info.name)) for info in infos if info.below_images]
    return ", ".join(
        info.text(value).removeprefix(f"{info.label} " if info.unit else "")
        for info, value in values
        if value is not None
    )


def _column_width(columns: dict[str, Entries]) -> float:
    return max(PAGE_WIDTH / len(columns), NARROWEST_COLUMN)


def _sheet_dpi(columns: dict[str, Entries]) -> int:
    pixels = max(image.shape[2] for image, _ in columns["original"].values())
    wanted = math.ceil(pixels / (_column_width(columns) - GAP))
    return min(max(wanted, LEAST_DPI), MOST_DPI)


def _image_sheet(columns: dict[str, Entries], title: str) -> Figure:
    width = _column_width(columns)
    inner = width - GAP
    originals = columns["original"]
    heights = [inner * image.shape[1] / image.shape[2] for image, _ in originals.values()]
    headers = [textwrap.fill(header, int(inner / LETTER)) for header in columns]
    head = LINE * (1 + max(header.count("\n") + 1 for header in headers))
    total = head + LABEL + sum(heights) + LABEL * len(heights)
    with house_style():
        figure = Figure(figsize=(width * len(columns), total))
        top = total - LABEL
        figure.text(0.5, 1 - LABEL / 2 / total, title, ha="center", va="center")
        top -= head
        for place, header in enumerate(headers):
            middle, bottom = (place + 0.5) / len(headers), (top + 0.05) / total
            figure.text(middle, bottom, header, ha="center", va="bottom", fontsize=7.5)
        for key, height in zip(originals, heights, strict=True):
            for place, entries in enumerate(columns.values()):
                if key in entries:
                    image, text = entries[key]
                    box = (place * width + GAP / 2, top - height, inner, height)
                    _place(figure, box, image, text)
            top -= height + LABEL
    return figure


def _place(
    figure: Figure, box: tuple[float, float, float, float], image: Tensor, text: str
) -> None:
    """Place an image at left, bottom, width and height in inches, and its text below it."""
    page_width, page_height = figure.get_size_inches()
    left, bottom, width, height = box
    ax: Axes = figure.add_axes(
        (left / page_width, bottom / page_height, width / page_width, height / page_height)
    )
    ax.imshow(image.permute(1, 2, 0).numpy())
    ax.set_axis_off()
    ax.text(0.5, -0.04 / height, text, transform=ax.transAxes, ha="center", va="top", fontsize=7)


def caption_sheets(
    results: Sequence[Results],
    output: Path,
    name: str,
    formats: Sequence[PlotFormat] = FORMATS,
) -> list[Path]:
    """Write tables of the captions of every image's first transmission, and its metrics.

    Args:
        results: some with captions; images without any are left out.
        output: folder for the files; it must exist.
        name: the files' stem; conditions, and the page from the second on, follow.

        formats: of the tables.

    Returns:
        The files; none without captions.
    """
    records = [one for result in results for one in result.records if one.repeat == 0]
    captioned = {record.image for record in records if record.caption is not None}
    infos = [info for info in metrics_of(results) if info.below_images]
    conditions: dict[Condition, list[Record]] = {}
    for record in records:
        if record.image in captioned:
            place = Condition(record.channel, record.nominal_rate, record.nominal_snr_db)
            conditions.setdefault(place, []).append(record)
    written = []
    for place, there in conditions.items():
        there.sort(key=lambda record: natural_key(record.image))
        table = CaptionTable(infos)
        for number, page in enumerate(table.pages(there), 1):
            stem = f"{name}{place.suffix(conditions)}" + (f"-{number}" if number > 1 else "")
            written += save(table.figure(page, place.title()), output, stem, formats)
    return written


# Left edges of a caption table's texts, in inches; its numbers are flush right at the page's end.
IMAGE, SCHEME, CAPTION = 0.05, 1.05, 2.55
TEXTS = ((IMAGE, "image"), (SCHEME, "scheme"), (CAPTION, "caption"))
NUMBER_WIDTH = 0.5


class CaptionTable:
    """A table of captions and metrics.

    Args:
        infos: the metrics, a column each.
    """

    def __init__(self, infos: Sequence[MetricInfo]) -> None:
        last = PAGE_WIDTH - IMAGE
        edges = [last - NUMBER_WIDTH * place for place in reversed(range(len(infos)))]
        self.numbers = list(zip(edges, infos, strict=True))
        self.caption_end = min(edges, default=last) - NUMBER_WIDTH - 0.05

    def pages(self, records: Sequence[Record]) -> list[list[Record]]:
        """Split records into pages of at most `MOST_LINES` lines."""
        pages: list[list[Record]] = [[]]
        for record in records:
            if pages[-1] and sum(map(self._height, [*pages[-1], record])) > MOST_LINES:
                pages.append([])
            pages[-1].append(record)
        return pages

    def figure(self, records: Sequence[Record], title: str) -> Figure:
        """Typeset a page."""
        spaces = [LINE * self._height(record) + GAP for record in records]
        total = HEADER + LABEL + sum(spaces) + GAP
        with house_style():
            figure = Figure(figsize=(PAGE_WIDTH, total))

            def write(x: float, top: float, text: str, align: str, weight: str = "normal") -> None:
                place = (x / PAGE_WIDTH, 1 - top / total)
                figure.text(*place, text, ha=align, va="top", fontsize=7, fontweight=weight)

            write(PAGE_WIDTH / 2, 0.04, title, "center")
            for x, header in TEXTS:
                write(x, LABEL + 0.12, header, "left", "bold")
            for x, info in self.numbers:
                write(x, LABEL + 0.12, info.heading, "right", "bold")
            top = LABEL + HEADER - GAP / 2
            before = None
            for record, space in zip(records, spaces, strict=True):
                new = record.image != before
                colour = "#888888" if new else "#E4E4E4"
                figure.add_artist(Line2D([0, 1], [1 - top / total] * 2, color=colour, lw=0.6))
                for (x, _), text in zip(TEXTS, self._lines(record), strict=True):
                    if new or x != IMAGE:
                        write(x, top + GAP / 2, text, "left")
                for x, info in self.numbers:
                    value = record.metrics.get(info.name)
                    text = "–" if value is None else f"{value:.{min(info.digits, 3)}f}"
                    write(x, top + GAP / 2, text, "right")
                top += space
                before = record.image
        return figure

    def _lines(self, record: Record) -> tuple[str, str, str]:
        """Image, scheme and caption, as wide as their columns."""
        return (
            textwrap.fill(Path(record.image).name, int((SCHEME - IMAGE) / LETTER) - 1),
            textwrap.fill(record.scheme, int((CAPTION - SCHEME) / LETTER) - 1),
            textwrap.fill(record.caption or "none", int((self.caption_end - CAPTION) / LETTER)),
        )

    def _height(self, record: Record) -> int:
        """Height of a record in lines."""
        return max(text.count("\n") + 1 for text in self._lines(record))

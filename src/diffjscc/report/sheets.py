"""Sheets of images that results kept, and of the captions that receivers were given."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from diffjscc.data.images import load_image, natural_key
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.results import KeptImages, Results
from diffjscc.metrics.evaluator import Metrics
from diffjscc.report.plots import LETTER, Condition, house_style, save

# All in inches: a sheet is as wide as a page of a journal, or wider where it has many columns.
PAGE_WIDTH = 7.2
NARROWEST_COLUMN = 1.4
MOST_IMAGES = 8  # below each other
LABEL, HEADER, GAP = 0.2, 0.36, 0.06
SHEET_DPI = 400  # five Kodak images beside each other keep most of their pixels
LINE = 0.145
MOST_LINES = 60  # of a table, on a page

Cells = dict[tuple[str, int], tuple[Tensor, str]]


def image_sheets(results: Sequence[Results], output: Path, name: str) -> list[Path]:
    """Write a PNG per channel, rate and SNR: a row per kept transmission, its images in columns.

    The columns are the original, then each scheme's initial image, unless another column shows
    the same one, and its final one, with PSNR and LPIPS below.

    Args:
        results: some of which kept images.
        output: folder for the files; it must exist.
        name: the files' stem; what tells conditions apart, and the page from the second, follow.

    Raises:
        ValueError: no images were kept, or a kept one cannot be read.
    """
    conditions: dict[Condition, dict[tuple[str, int], list[tuple[Results, KeptImages]]]] = {}
    for result in results:
        for shown in result.shown:
            place = Condition(shown.channel, shown.nominal_rate, shown.nominal_snr_db)
            sent = conditions.setdefault(place, {}).setdefault((shown.image, shown.repeat), [])
            sent.append((result, shown))
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
            figure = _image_sheet(_columns(page), place.title())
            stem = f"{name}{place.suffix(conditions)}" + (f"-{number}" if number > 1 else "")
            written += save(figure, output, stem, ("png",), SHEET_DPI)
    return written


def _columns(sent: dict[tuple[str, int], list[tuple[Results, KeptImages]]]) -> dict[str, Cells]:
    """By header: the images [3, H, W] of each transmission, and what stands below them."""
    columns: dict[str, Cells] = {"original": {}}
    for key, kept in sent.items():
        finals = [load_image(result.folder / shown.final) for result, shown in kept]
        seen = list(finals)
        for final, (result, shown) in zip(finals, kept, strict=True):
            row = result.row_of(shown)
            if key not in columns["original"]:
                original = load_image(result.folder / shown.original)
                columns["original"][key] = original, Path(shown.image).name
            if shown.initial is not None and row.initial is not None:
                initial = load_image(result.folder / shown.initial)
                if not any(torch.equal(initial, other) for other in seen):
                    seen.append(initial)
                    header = f"{shown.scheme}: initial image"
                    columns.setdefault(header, {})[key] = initial, _told(row.initial)
            lost = "outage: " if row.outage else ""
            columns.setdefault(shown.scheme, {})[key] = final, f"{lost}{_told(row.final)}"
    return columns


def _told(figures: Metrics) -> str:
    lpips = "" if figures.lpips is None else f", LPIPS {figures.lpips:.3f}"
    return f"{figures.psnr:.2f} dB{lpips}"


def _image_sheet(columns: dict[str, Cells], title: str) -> Figure:
    width = max(PAGE_WIDTH / len(columns), NARROWEST_COLUMN)
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
            for place, cells in enumerate(columns.values()):
                if key in cells:
                    image, text = cells[key]
                    box = (place * width + GAP / 2, top - height, inner, height)
                    _show(figure, box, image, text)
            top -= height + LABEL
    return figure


def _show(figure: Figure, box: tuple[float, float, float, float], image: Tensor, text: str) -> None:
    """An image at left, bottom, width and height in inches, and its text below it."""
    page_width, page_height = figure.get_size_inches()
    left, bottom, width, height = box
    ax: Axes = figure.add_axes(
        (left / page_width, bottom / page_height, width / page_width, height / page_height)
    )
    ax.imshow(image.permute(1, 2, 0).numpy())
    ax.set_axis_off()
    ax.text(0.5, -0.04 / height, text, transform=ax.transAxes, ha="center", va="top", fontsize=7)


def caption_sheets(results: Sequence[Results], output: Path, name: str) -> list[Path]:
    """Write tables of the captions of every image's first transmission, and its figures.

    Args:
        results: some with captions; images without any are left out.
        output: folder for the files; it must exist.
        name: the files' stem; what tells conditions apart, and the page from the second, follow.

    Returns:
        PNG and SVG files; none without captions.
    """
    rows = [row for result in results for row in result.rows if row.repeat == 0]
    captioned = {row.image for row in rows if row.caption is not None}
    conditions: dict[Condition, list[Record]] = {}
    for row in rows:
        if row.image in captioned:
            place = Condition(row.channel, row.nominal_rate, row.nominal_snr_db)
            conditions.setdefault(place, []).append(row)
    written = []
    for place, there in conditions.items():
        there.sort(key=lambda row: natural_key(row.image))
        for number, page in enumerate(_pages(there), 1):
            stem = f"{name}{place.suffix(conditions)}" + (f"-{number}" if number > 1 else "")
            written += save(_caption_table(page, place.title()), output, stem)
    return written


# Of a table of captions: each column's header, left edge or, of numbers, right edge in inches.
IMAGE, SCHEME, CAPTION, PSNR, LPIPS = 0.05, 1.05, 2.55, 6.65, 7.15
TABLE = ((IMAGE, "image"), (SCHEME, "scheme"), (CAPTION, "caption"))
NUMBERS = ((PSNR, "PSNR / dB"), (LPIPS, "LPIPS"))


def _lines(row: Record) -> tuple[str, str, str]:
    """Image, scheme and caption, as wide as their columns."""
    return (
        textwrap.fill(Path(row.image).name, int((SCHEME - IMAGE) / LETTER) - 1),
        textwrap.fill(row.scheme, int((CAPTION - SCHEME) / LETTER) - 1),
        textwrap.fill(row.caption or "none", int((PSNR - 0.55 - CAPTION) / LETTER)),
    )


def _height(row: Record) -> int:
    """In lines."""
    return max(text.count("\n") + 1 for text in _lines(row))


def _pages(rows: Sequence[Record]) -> list[list[Record]]:
    pages: list[list[Record]] = [[]]
    for row in rows:
        if pages[-1] and sum(map(_height, [*pages[-1], row])) > MOST_LINES:
            pages.append([])
        pages[-1].append(row)
    return pages


def _caption_table(rows: Sequence[Record], title: str) -> Figure:
    spaces = [LINE * _height(row) + GAP for row in rows]
    total = HEADER + LABEL + sum(spaces) + GAP
    with house_style():
        figure = Figure(figsize=(PAGE_WIDTH, total))

        def write(x: float, top: float, text: str, align: str, weight: str = "normal") -> None:
            place = (x / PAGE_WIDTH, 1 - top / total)
            figure.text(*place, text, ha=align, va="top", fontsize=7, fontweight=weight)

        def rule(top: float, colour: str) -> None:
            line = Line2D([0, 1], [1 - top / total] * 2, color=colour, lw=0.6)
            figure.add_artist(line)

        write(PAGE_WIDTH / 2, 0.04, title, "center")
        for x, header in TABLE:
            write(x, LABEL + 0.12, header, "left", "bold")
        for x, header in NUMBERS:
            write(x, LABEL + 0.12, header, "right", "bold")
        top = LABEL + HEADER - GAP / 2
        before = None
        for row, space in zip(rows, spaces, strict=True):
            new = row.image != before
            rule(top, "#888888" if new else "#E4E4E4")
            for (x, _), text in zip(TABLE, _lines(row), strict=True):
                if new or x != IMAGE:
                    write(x, top + GAP / 2, text, "left")
            write(PSNR, top + GAP / 2, f"{row.psnr:.2f}", "right")
            write(LPIPS, top + GAP / 2, "–" if row.lpips is None else f"{row.lpips:.3f}", "right")
            top += space
            before = row.image
    return figure

"""Folders of results as one HTML page that needs a browser and nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from diffjscc.data.files import atomic_write
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.results import Results, check_rows
from diffjscc.evaluation.statistics import (
    MERITS,
    OUTAGE,
    Summary,
    frechet_label,
    kernel_label,
    summarise,
)
from diffjscc.report.figures import draw
from diffjscc.report.gallery import QUALITY, Gallery

PAGE = Path(__file__).parent / "assets"
SCRIPTS = ("common.js", "tables.js", "gallery.js", "images.js")


def write_report(results: Sequence[Results], path: Path) -> None:
    """Write what folders of results show as one page: summary, figures, images, set-up.

    Everything is in the file; it asks neither the network nor another file for anything.

    Args:
        results: at least one; pooled as `summarise` does.
        path: the HTML file; its folder must exist.

    Raises:
        ResultsError: a kept image is missing or damaged, or no row is of it.
        ValueError: there are no results or no rows, or see `summarise`.
        OSError: the file cannot be written; the text says why.
    """
    check_rows(results)
    summaries = summarise(results)
    columns = _columns(summaries)
    rows = _rows(results)
    gallery = Gallery(rows)
    for result in results:
        gallery.add(result)
    charts = _charts(results)
    merits = [{"name": name, **asdict(merit)} for name, merit in MERITS.items() if _any(rows, name)]
    captioned = _any(rows, "caption")
    script = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.jinja").render(
        title=_title(results),
        sentence=_sentence(rows),
        columns=columns,
        lines=_lines(summaries, columns),
        counted=_counted(summaries),
        outages=any(column.label == OUTAGE.label for column in columns),
        partial=any(summary.absent for summary in summaries),
        charts=charts,
        scenes=gallery.scenes,
        quality=QUALITY,
        merits=merits,
        captioned=captioned,
        setups=[
            (result, yaml.safe_dump(result.setup.sweep, sort_keys=False, allow_unicode=True))
            for result in results
        ],
        data={
            "columns": [field.name for field in fields(Record)],
            "rows": [list(row.as_dict().values()) for row in rows],
            "merits": merits,
            "captioned": captioned,
            "scenes": [asdict(scene) for scene in gallery.scenes.values()],
            "images": [asdict(image) for image in gallery.images],
        },
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _charts(results: Sequence[Results]) -> list[Markup]:
    """Figures that are plots, as SVG elements; of sheets of images the gallery shows more."""
    charts = []
    with TemporaryDirectory() as folder:
        for path in draw(results, Path(folder)):
            if path.suffix != ".svg":
                continue
            drawing = path.read_text(encoding="utf-8").partition("<svg")[2]
            # Names within a figure are not to meet those of the next one on the same page.
            drawing = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{path.stem}-", drawing)
            name = Markup('<svg role="img" aria-label="Figure {}; the summary has its numbers"')
            charts.append(name.format(path.stem) + Markup(drawing))
    return charts


@dataclass(frozen=True)
class Column:
    """A figure of merit in the summary.

    Attributes:
        label: with its unit, if it has one.
        higher: higher is better; otherwise lower is.
        digits: after the decimal point.
        read: mean and what stands after ±, or None where a cell has no such figure.
        initial: it is of the images that a refiner was given.
    """

    label: str
    higher: bool
    digits: int
    read: Callable[[Summary], tuple[float, float | None] | None]
    initial: bool = False


def _columns(summaries: Sequence[Summary]) -> list[Column]:
    """Those that any cell has a figure for."""
    columns = []
    for name, merit in MERITS.items():
        read = partial(_estimate, name)
        columns.append(Column(merit.label, merit.higher, merit.digits, read))
        label, read = f"{merit.label}, initial", partial(_estimate, f"{name}_initial")
        columns.append(Column(label, merit.higher, merit.digits, read, initial=True))
    lost = [summary.estimates["outage"] for summary in summaries if "outage" in summary.estimates]
    if any(estimate.mean for estimate in lost):
        read = partial(_estimate, "outage")
        columns.append(Column(OUTAGE.label, OUTAGE.higher, OUTAGE.digits, read))
    for features in dict.fromkeys(name for summary in summaries for name in summary.distances):
        for label, value in (
            (frechet_label(features), partial(_frechet, features)),
            (kernel_label(features), partial(_kernel, features)),
        ):
            digits = _digits(found[0] for found in map(value, summaries) if found is not None)
            columns.append(Column(label, False, digits, value))
    return [column for column in columns if any(map(column.read, summaries))]


def _digits(values: Iterable[float]) -> int:
    """After the decimal point, so that the largest value has four that count."""
    largest = max(map(abs, values))
    return 4 if largest == 0 else max(0, 3 - math.floor(math.log10(largest)))


def _estimate(name: str, summary: Summary) -> tuple[float, float | None] | None:
    found = summary.estimates.get(name)
    return None if found is None else (found.mean, found.half_width)


def _frechet(features: str, summary: Summary) -> tuple[float, None] | None:
    found = summary.distances.get(features)
    return None if found is None else (found.frechet, None)


def _kernel(features: str, summary: Summary) -> tuple[float, float] | None:
    found = summary.distances.get(features)
    return None if found is None else (found.kernel, found.kernel_deviation)


@dataclass(frozen=True)
class Entry:
    """A figure as the summary shows it.

    Attributes:
        value: to sort by; None where there is none.
        text: the value, rounded.
        spread: what stands after ±; empty if nothing does.
        best: some scheme has a worse `text` over the same channel at the same rate and SNR, none
            has a better one; schemes that cannot send every image do not take part.
        initial: as the column's.
    """

    value: float | None
    text: str
    spread: str
    best: bool
    initial: bool


@dataclass(frozen=True)
class Line:
    """A cell in the summary; true values are empty where they are the nominal ones."""

    summary: Summary
    true_rate: str
    true_snr_db: str
    entries: list[Entry]


def _lines(summaries: Sequence[Summary], columns: Sequence[Column]) -> list[Line]:
    lines = []
    for summary in summaries:
        rivals = [
            other for other in summaries if other.cell[1:] == summary.cell[1:] and not other.absent
        ]
        lines.append(
            Line(
                summary,
                _unless_nominal(summary.rate, float(Fraction(summary.nominal_rate))),
                _unless_nominal(summary.snr_db, summary.nominal_snr_db),
                [_entry(summary, rivals, column) for column in columns],
            )
        )
    return lines


def _unless_nominal(value: float, nominal: float) -> str:
    text = f"{value:.3g}"
    return "" if text == f"{nominal:.3g}" else text


def _entry(summary: Summary, rivals: Sequence[Summary], column: Column) -> Entry:
    own = column.read(summary)
    if own is None:
        return Entry(None, "–", "", False, column.initial)
    mean, spread = own
    others = [found[0] for rival in rivals if (found := column.read(rival)) is not None]
    others = others or [mean]
    ends = (min(others), max(others)) if column.higher else (max(others), min(others))
    text, worst, best = (f"{value:.{column.digits}f}" for value in (mean, *ends))
    return Entry(
        value=mean,
        text=text,
        spread="" if spread is None else f"{spread:.{column.digits}f}",
        best=text == best != worst and not summary.absent,
        initial=column.initial,
    )


def _rows(results: Sequence[Results]) -> list[Record]:
    """Every transmission once, even if several folders have it."""
    rows: dict[object, Record] = {}
    for result in results:
        for row in result.rows:
            rows.setdefault(row.transmission, row)
    return list(rows.values())


def _any(rows: Sequence[Record], name: str) -> bool:
    return any(getattr(row, name) is not None for row in rows)


def _title(results: Sequence[Results]) -> str:
    figures = {result.setup.figure for result in results}
    numbers = sorted(name.removeprefix("fig") for name in figures if name is not None)
    if not numbers or None in figures:
        return "Images over noisy channels"
    return f"Figure{'s' if len(numbers) > 1 else ''} {_listed(numbers)}, measured again"


def _sentence(rows: Sequence[Record]) -> str:
    """What was run."""
    images = len({(row.image, row.image_hash) for row in rows})
    rates = _listed(dict.fromkeys(row.nominal_rate for row in rows))
    snrs = _listed(f"{snr:g}" for snr in dict.fromkeys(row.nominal_snr_db for row in rows))
    return (
        f"{len(rows):,} transmission{'s' if len(rows) > 1 else ''} of "
        f"{images} image{'s' if images > 1 else ''} by "
        f"{_listed(dict.fromkeys(row.scheme for row in rows))} over "
        f"{_listed(dict.fromkeys(row.channel for row in rows))}, at {rates} channel uses per "
        f"pixel and an SNR of {snrs} dB."
    )


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _counted(summaries: Sequence[Summary]) -> str:
    """Of how many images and transmissions a cell's means are."""
    estimates = [found for summary in summaries if (found := summary.estimates.get("psnr"))]
    images = sorted({estimate.images for estimate in estimates})
    sent = sorted({estimate.transmissions for estimate in estimates})
    words = [
        f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
        for numbers in (images, sent)
    ]
    return f"{words[0]} image{'' if images == [1] else 's'} ({words[1]} transmissions)"

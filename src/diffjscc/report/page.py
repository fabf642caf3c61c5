"""Folders of results as one HTML page that needs a browser and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from diffjscc.data.files import atomic_write
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.results import Results, check_records
from diffjscc.evaluation.statistics import Summary, bias_note, metrics_of, quantities, summarise
from diffjscc.metrics.catalogue import OUTAGE, SECONDS
from diffjscc.report.figures import write_figures
from diffjscc.report.gallery import QUALITY, Gallery
from diffjscc.report.means import Column, columns_of

PAGE = Path(__file__).parent / "assets"
SCRIPTS = ("common.js", "tables.js", "gallery.js", "images.js")


def write_report(results: Sequence[Results], path: Path) -> None:
    """Write folders of results as one page: summary, plots, images, set-up.

    Everything is in the file; it asks neither the network nor another file for anything.

    Args:
        results: at least one; pooled as `summarise` does.
        path: the HTML file; its folder must exist.

    Raises:
        ResultsError: a kept image is missing or damaged, or has no record.
        ValueError: there are no results or no records, or see `summarise`.
        OSError: the file cannot be written; the text says why.
    """
    check_records(results)
    summaries = summarise(results)
    columns = columns_of(summaries)
    records = _records(results)
    gallery = Gallery(records)
    for result in results:
        gallery.add(result)
    charts = _charts(results)
    metrics = _metrics(results, records)
    captioned = any(record.caption is not None for record in records)
    script = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.jinja").render(
        title=_title(results),
        sentence=_sentence(records),
        columns=columns,
        lines=_lines(summaries, columns),
        counted=_counted(summaries),
        bias=bias_note(summaries),
        outages=any(column.label == OUTAGE.heading for column in columns),
        partial=any(summary.absent for summary in summaries),
        charts=charts,
        scenes=gallery.scenes,
        quality=QUALITY,
        metrics=metrics,
        captioned=captioned,
        setups=[
            (result, yaml.safe_dump(result.setup.sweep, sort_keys=False, allow_unicode=True))
            for result in results
        ],
        data={
            "columns": [field.name for field in fields(Record)],
            "records": [list(record.as_dict().values()) for record in records],
            "metrics": metrics,
            "captioned": captioned,
            "scenes": [asdict(scene) for scene in gallery.scenes.values()],
            "images": [asdict(image) for image in gallery.images],
        },
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
    with atomic_write(path) as temporary:
        # Names of folders need not be Unicode.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _charts(results: Sequence[Results]) -> list[Markup]:
    """Plots as SVG elements; sheets of images are left out, the gallery shows more."""
    charts = []
    with TemporaryDirectory() as folder:
        for path in write_figures(results, Path(folder), ("svg",), sheets=False):
            svg = path.read_text(encoding="utf-8").partition("<svg")[2]
            # Names within a plot are not to meet those of the next one on the same page.
            svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{path.stem}-", svg)
            name = Markup('<svg role="img" aria-label="Figure {}; the summary has its numbers"')
            charts.append(name.format(path.stem) + Markup(svg))
    return charts


@dataclass(frozen=True)
class Entry:
    """An entry of the summary.

    Attributes:
        value: to sort by; None without one.
        text: the value, rounded.
        spread: the number after ±; empty without one.
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
    """An operating point in the summary; true values are empty where they are the nominal ones."""

    summary: Summary
    true_rate: str
    true_snr_db: str
    entries: list[Entry]


def _lines(summaries: Sequence[Summary], columns: Sequence[Column]) -> list[Line]:
    lines = []
    for summary in summaries:
        rivals = [
            other
            for other in summaries
            if other.point[1:] == summary.point[1:] and not other.absent
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
    ends = (min(others), max(others)) if column.higher_is_better else (max(others), min(others))
    text, worst, best = (f"{value:.{column.digits}f}" for value in (mean, *ends))
    return Entry(
        value=mean,
        text=text,
        spread="" if spread is None else f"{spread:.{column.digits}f}",
        best=text == best != worst and not summary.absent,
        initial=column.initial,
    )


def _records(results: Sequence[Results]) -> list[Record]:
    """Every transmission once, even if several folders have it."""
    records: dict[object, Record] = {}
    for result in results:
        for record in result.records:
            records.setdefault(record.transmission, record)
    return list(records.values())


def _metrics(results: Sequence[Results], records: Sequence[Record]) -> list[dict[str, object]]:
    """Metrics of single transmissions for the page's script; those that any record has."""
    return [
        {
            "key": quantity.key,
            "heading": quantity.info.heading,
            "higher_is_better": quantity.info.higher_is_better,
            "digits": quantity.info.digits,
        }
        for quantity in quantities(metrics_of(results)).values()
        if not quantity.initial
        and quantity.info != OUTAGE
        and any(quantity.of(record) is not None for record in records)
    ]


def _title(results: Sequence[Results]) -> str:
    figures = {result.setup.figure for result in results}
    numbers = sorted(name.removeprefix("fig") for name in figures if name is not None)
    if not numbers or None in figures:
        return "Images over noisy channels"
    return f"Figure{'s' if len(numbers) > 1 else ''} {_listed(numbers)}, measured again"


def _sentence(records: Sequence[Record]) -> str:
    """Describe the run in a sentence."""
    images = len({(record.image, record.image_hash) for record in records})
    rates = _listed(dict.fromkeys(record.nominal_rate for record in records))
    snrs = _listed(f"{snr:g}" for snr in dict.fromkeys(record.nominal_snr_db for record in records))
    return (
        f"{len(records):,} transmission{'s' if len(records) > 1 else ''} of "
        f"{images} image{'s' if images > 1 else ''} by "
        f"{_listed(dict.fromkeys(record.scheme for record in records))} over "
        f"{_listed(dict.fromkeys(record.channel for record in records))}, at {rates} channel uses "
        f"per pixel and an SNR of {snrs} dB."
    )


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _counted(summaries: Sequence[Summary]) -> str:
    """Numbers of images and transmissions behind a mean."""
    estimates = [summary.estimates[SECONDS.name] for summary in summaries if summary.estimates]
    images = sorted({estimate.images for estimate in estimates})
    sent = sorted({estimate.transmissions for estimate in estimates})
    words = [
        f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
        for numbers in (images, sent)
    ]
    return f"{words[0]} image{'' if images == [1] else 's'} ({words[1]} transmissions)"

"""Figures from results alone: what varies in a sweep decides what is drawn over what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import log2
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from diffjscc.evaluation.records import OperatingPoint
from diffjscc.evaluation.results import Results, check_rows
from diffjscc.evaluation.statistics import Summary, summarise
from diffjscc.report.plots import (
    Condition,
    Curve,
    XAxis,
    curves_figure,
    panels_of,
    points_figure,
    save,
)
from diffjscc.report.sheets import caption_sheets, image_sheets

AxisName = Literal["rate", "snr", "steps"]

# What the paper's figures are drawn over; its fig1 and fig5 are sheets of images.
PAPER_AXES: dict[str, AxisName] = {
    "fig3": "rate",
    "fig4": "snr",
    "fig6": "snr",
    "fig7": "steps",
    "fig8": "snr",
}
PAPER_SHEETS = ("fig1", "fig5")
PAPER_CAPTIONS = "fig8"

MOST_TICKS = 7


def draw(results: Sequence[Results], output: Path) -> list[Path]:
    """Draw what some folders of results show, each figure as PNG and SVG.

    Folders for the same figure of the paper are drawn together: fig3 over the rate, fig4, fig6 and
    fig8 over the SNR, the latter with tables of captions, fig7 over sampling steps, fig1 and fig5
    as sheets of images (PNG only). Without a figure, and where its axis does not vary: over each
    of rate, SNR and steps that varies, otherwise a point per scheme. There is a file for each value
    of what is held fixed.

    Args:
        results: of the same schemes, or of others.
        output: folder for the files, made if need be; those of the same names are replaced.

    Returns:
        The files.

    Raises:
        ValueError: there are no results or rows, no images for a sheet, or see `summarise`.
        OSError: a file cannot be written; the text says why.
    """
    check_rows(results)
    by_figure: dict[str | None, list[Results]] = {}
    for result in results:
        by_figure.setdefault(result.setup.figure, []).append(result)
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for figure, group in by_figure.items():
        if figure in PAPER_SHEETS:
            written += image_sheets(group, output, figure)
        else:
            for name, plot in make_plots(summarise(group), figure):
                written += save(plot, output, name)
        if figure == PAPER_CAPTIONS:
            written += caption_sheets(group, output, f"{figure}-captions")
    return written


def make_plots(summaries: Sequence[Summary], figure: str | None) -> Iterator[tuple[str, Figure]]:
    """Each plot and its name, see `draw`.

    Args:
        summaries: at least one. A cell that lacks an image is not drawn: a mean over those that
            its scheme could send would flatter it. The title says that there are such.
        figure: of the paper; None for all that varies.
    """
    own = PAPER_AXES.get(figure or "")
    if all(summary.absent for summary in summaries):
        return
    varying = _varying(summaries)
    axes = [own] if own in varying else varying
    if not axes:
        yield from _plots_over(None, summaries, figure or "schemes")
    for axis in axes:
        over = f"over-{axis}"
        name = over if figure is None else figure if axis == own else f"{figure}-{over}"
        yield from _plots_over(axis, summaries, name)


def _varying(summaries: Sequence[Summary]) -> list[AxisName]:
    """What has more than one value."""
    steps: dict[str, set[int]] = {}
    for summary, family in zip(summaries, _families(summaries), strict=True):
        if summary.steps is not None:
            steps.setdefault(family, set()).add(summary.steps)
    varies: dict[AxisName, bool] = {
        "rate": len({summary.nominal_rate for summary in summaries}) > 1,
        "snr": len({summary.nominal_snr_db for summary in summaries}) > 1,
        "steps": any(len(values) > 1 for values in steps.values()),
    }
    return [name for name, several in varies.items() if several]


def _families(summaries: Sequence[Summary]) -> list[str]:
    """The schemes' names without steps, and with the sampler where that alone tells them apart."""
    names = [
        re.sub(r"\s*[,:(]?\s*\b\d+ steps?\b\)?", "", summary.scheme) or summary.scheme
        for summary in summaries
    ]
    samplers: dict[str, set[str | None]] = {}
    for name, summary in zip(names, summaries, strict=True):
        samplers.setdefault(name, set()).add(summary.sampler)
    return [
        f"{name}, {summary.sampler}" if summary.sampler and len(samplers[name]) > 1 else name
        for name, summary in zip(names, summaries, strict=True)
    ]


def _plots_over(
    axis: AxisName | None, summaries: Sequence[Summary], name: str
) -> Iterator[tuple[str, Figure]]:
    """A plot for each condition; with no axis, of a point per scheme."""
    conditions: dict[Condition, list[Summary]] = {}
    for summary in summaries:
        rate = None if axis == "rate" else summary.nominal_rate
        snr_db = None if axis in ("snr", "steps") else summary.nominal_snr_db
        condition = Condition(summary.channel, rate, snr_db)
        conditions.setdefault(condition, []).append(summary)
    labels = _labels(axis, summaries)
    drawn = dict.fromkeys(labels[summary.cell] for summary in summaries if not summary.absent)
    styles = {label: number for number, label in enumerate(drawn)}
    places = [_place(axis, summary) for summary in summaries if axis != "steps" or summary.steps]
    ends = min(places), max(places)
    for condition, found in conditions.items():
        cells = [cell for cell in found if not cell.absent]
        if not cells:
            continue
        panels = panels_of(cells, with_seconds=axis == "steps")
        curves, title = _curves(axis, cells, labels, styles, ends), condition.title()
        partial = dict.fromkeys(cell.scheme for cell in found if cell.absent)
        if partial:
            title += f"; no points where an image cannot be sent: {'; '.join(partial)}"
        if axis is None:
            plot = points_figure(curves, panels, title)
        else:
            plot = curves_figure(curves, panels, _x_axis(axis, summaries), title)
        yield f"{name}{condition.suffix(conditions)}", plot


def _labels(axis: AxisName | None, summaries: Sequence[Summary]) -> dict[OperatingPoint, str]:
    """The curve that each cell lies on."""
    if axis != "steps":
        return {summary.cell: summary.scheme for summary in summaries}
    several = len({summary.nominal_snr_db for summary in summaries}) > 1
    return {
        summary.cell: f"{family}, {summary.nominal_snr_db:g} dB" if several else family
        for summary, family in zip(summaries, _families(summaries), strict=True)
    }


def _curves(
    axis: AxisName | None,
    summaries: Sequence[Summary],
    labels: dict[OperatingPoint, str],
    styles: dict[str, int],
    ends: tuple[float, float],
) -> list[Curve]:
    """Those of final images; where no scheme is the codec alone, of initial ones as well."""
    by_label: dict[str, list[Summary]] = {}
    for summary in summaries:
        by_label.setdefault(labels[summary.cell], []).append(summary)
    curves = []
    for label, own in by_label.items():
        level = axis == "steps" and own[0].steps is None
        places = [(_place(axis, summary), summary) for summary in own]
        if level:
            places = [(end, own[0]) for end in ends]
        points = tuple(sorted(places, key=lambda place: place[0]))
        curves.append(Curve(label, styles[label], points, level=level))
    if all("psnr_initial" in summary.estimates for summary in summaries):
        curves += _initial_curves(axis, curves)
    return curves


def _initial_curves(axis: AxisName | None, curves: Sequence[Curve]) -> list[Curve]:
    """Those of the initial images; one for all schemes that were given the same ones."""
    several = len({cell.nominal_snr_db for curve in curves for _, cell in curve.points}) > 1
    distinct: dict[tuple[str, tuple[float, ...]], Curve] = {}
    for curve in curves:
        # Steps do not change the initial image; other batches may round it otherwise.
        points = (curve.points[0], curve.points[-1]) if axis == "steps" else curve.points
        at = f", {points[0][1].nominal_snr_db:g} dB" if axis == "steps" and several else ""
        values = tuple(round(cell.estimates["psnr_initial"].mean, 2) for _, cell in points)
        initial = replace(curve, points=points, initial=True, level=axis == "steps")
        distinct.setdefault((at, values), initial)
    places = [at for at, _ in distinct]
    return [
        replace(
            curve,
            label=f"initial image{at}"
            if places.count(at) == 1
            else f"{curve.label}: initial image",
        )
        for (at, _), curve in distinct.items()
    ]


def _place(axis: AxisName | None, summary: Summary) -> float:
    """Where a cell lies: at its true rate, padding included, and its mean SNR over all fades."""
    if axis == "rate":
        return summary.rate
    if axis == "snr":
        return summary.nominal_snr_db
    return float(summary.steps or 0)


def _x_axis(axis: AxisName, summaries: Sequence[Summary]) -> XAxis:
    if axis == "snr":
        values = {summary.nominal_snr_db for summary in summaries}
        return XAxis(
            "SNR / dB",
            "linear",
            _ticks({value: f"{value:g}".replace("-", "−") for value in values}),
        )
    if axis == "rate":
        rates = {summary.nominal_rate for summary in summaries}
        ticks = _ticks({float(Fraction(rate)): rate for rate in rates}, log2)
        return XAxis("rate / channel uses per pixel", "log", ticks)
    steps = {summary.steps for summary in summaries if summary.steps is not None}
    return XAxis("sampling steps", "log", _ticks({step: str(step) for step in steps}, log2))


def _ticks(
    texts: Mapping[float, str], position: Callable[[float], float] = float
) -> tuple[tuple[float, str], ...]:
    """Those values that have room for their text."""
    values = sorted(texts)
    room = (position(values[-1]) - position(values[0])) / MOST_TICKS
    kept = values[:1]
    for value in values[1:]:
        if position(value) - position(kept[-1]) >= room:
            kept.append(value)
    return tuple((value, texts[value]) for value in kept)

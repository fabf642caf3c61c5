"""Plots from results alone: the settings that vary in a sweep decide the axes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import log2
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from diffjscc.choices import PlotFormat
from diffjscc.evaluation.records import OperatingPoint
from diffjscc.evaluation.results import Results, check_records
from diffjscc.evaluation.statistics import Quantity, Summary, summarise
from diffjscc.report.plots import (
    FORMATS,
    Condition,
    Curve,
    XAxis,
    curves_figure,
    panels_of,
    points_figure,
    save,
)
from diffjscc.report.sheets import caption_sheets, image_sheets
from diffjscc.report.styles import Style, styles_of

AxisName = Literal["rate", "snr", "steps"]

# Horizontal axes of the paper's figures, of which fig1 and fig5 are sheets of images, and of that
# of arXiv 1809.01733.
PAPER_AXES: dict[str, AxisName] = {
    "fig3": "rate",
    "fig4": "snr",
    "fig6": "snr",
    "fig7": "steps",
    "fig8": "snr",
    "deepjscc": "snr",
}
PAPER_SHEETS = ("fig1", "fig5")
PAPER_CAPTIONS = "fig8"

MOST_TICKS = 7


def write_figures(
    results: Sequence[Results],
    output: Path,
    formats: Sequence[PlotFormat] = FORMATS,
    sheets: bool = True,
) -> list[Path]:
    """Write the plots of some folders of results, each as PNG and PDF.

    Folders for the same figure of the paper are plotted together: fig3 over the rate, fig4, fig6
    and fig8 over the SNR, the latter with tables of captions, fig7 over sampling steps, fig1 and
    fig5 as sheets of images (PNG only). Without a figure, and where its axis does not vary: over
    each of rate, SNR and steps that varies, otherwise a point per scheme. There is a file for each
    value of the conditions held fixed.

    Args:
        results: of the same schemes, or of others.
        output: folder for the files, made if need be; those of the same names are replaced.
        formats: of plots; sheets of images are PNG.
        sheets: write sheets of images, too.

    Returns:
        The files.

    Raises:
        ValueError: there are no results or records, no images for a sheet, or see `summarise`.
        OSError: a file cannot be written; the text says why.
    """
    check_records(results)
    by_figure: dict[str | None, list[Results]] = {}
    for result in results:
        by_figure.setdefault(result.setup.figure, []).append(result)
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for figure, group in by_figure.items():
        if figure in PAPER_SHEETS:
            written += image_sheets(group, output, figure) if sheets else []
        else:
            for name, plot in make_plots(summarise(group), figure):
                written += save(plot, output, name, formats)
        if figure == PAPER_CAPTIONS:
            written += caption_sheets(group, output, f"{figure}-captions", formats)
    return written


def make_plots(summaries: Sequence[Summary], figure: str | None) -> Iterator[tuple[str, Figure]]:
    """Yield each plot and its name, see `write_figures`.

    Args:
        summaries: at least one. A point that lacks an image is left out: a mean over those
            that its scheme could send would flatter it. The title says that there are such.
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
    """Axes with more than one value."""
    steps: dict[str, set[int]] = {}
    for summary, family in zip(summaries, _families(summaries), strict=True):
        if summary.num_inference_steps is not None:
            steps.setdefault(family, set()).add(summary.num_inference_steps)
    varies: dict[AxisName, bool] = {
        "rate": len({summary.nominal_rate for summary in summaries}) > 1,
        "snr": len({summary.nominal_snr_db for summary in summaries}) > 1,
        "steps": any(len(values) > 1 for values in steps.values()),
    }
    return [name for name, several in varies.items() if several]


def _families(summaries: Sequence[Summary]) -> list[str]:
    """The schemes' names without steps, but with the sampler where that alone differs."""
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
    shown = dict.fromkeys(labels[summary.point] for summary in summaries if not summary.absent)
    styles = styles_of(list(shown))
    places = [
        _place(axis, summary)
        for summary in summaries
        if axis != "steps" or summary.num_inference_steps
    ]
    ends = min(places), max(places)
    for condition, found in conditions.items():
        whole = [summary for summary in found if not summary.absent]
        if not whole:
            continue
        panels = panels_of(whole, with_seconds=axis == "steps")
        curves, title = _curves(axis, whole, labels, styles, ends), condition.title()
        partial = dict.fromkeys(summary.scheme for summary in found if summary.absent)
        if partial:
            title += f"; no points where an image cannot be sent: {'; '.join(partial)}"
        if axis is None:
            plot = points_figure(curves, panels, title)
        else:
            plot = curves_figure(curves, panels, _x_axis(axis, summaries), title)
        yield f"{name}{condition.suffix(conditions)}", plot


def _labels(axis: AxisName | None, summaries: Sequence[Summary]) -> dict[OperatingPoint, str]:
    """The curve of each operating point."""
    if axis != "steps":
        return {summary.point: summary.scheme for summary in summaries}
    several = len({summary.nominal_snr_db for summary in summaries}) > 1
    return {
        summary.point: f"{family}, {summary.nominal_snr_db:g} dB" if several else family
        for summary, family in zip(summaries, _families(summaries), strict=True)
    }


def _curves(
    axis: AxisName | None,
    summaries: Sequence[Summary],
    labels: dict[OperatingPoint, str],
    styles: dict[str, Style],
    ends: tuple[float, float],
) -> list[Curve]:
    """Curves of the final images; where no scheme is the codec alone, of initial ones as well."""
    by_label: dict[str, list[Summary]] = {}
    for summary in summaries:
        by_label.setdefault(labels[summary.point], []).append(summary)
    curves = []
    for label, own in by_label.items():
        level = axis == "steps" and own[0].num_inference_steps is None
        places = [(_place(axis, summary), summary) for summary in own]
        if level:
            places = [(end, own[0]) for end in ends]
        points = tuple(sorted(places, key=lambda place: place[0]))
        curves.append(Curve(label, styles[label], points, level=level))
    if all(_initial_level(summary) is not None for summary in summaries):
        curves += _initial_curves(axis, curves)
    return curves


def _initial_curves(axis: AxisName | None, curves: Sequence[Curve]) -> list[Curve]:
    """Curves of the initial images; one for all schemes that were given the same ones."""
    several = len({summary.nominal_snr_db for curve in curves for _, summary in curve.points}) > 1
    distinct: dict[tuple[str, tuple[float | None, ...]], Curve] = {}
    for curve in curves:
        # Steps do not change the initial image; other batches may round it otherwise.
        points = (curve.points[0], curve.points[-1]) if axis == "steps" else curve.points
        at = f", {points[0][1].nominal_snr_db:g} dB" if axis == "steps" and several else ""
        values = tuple(_initial_level(summary) for _, summary in points)
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


def _initial_level(summary: Summary) -> float | None:
    """Mean of the first metric of the initial images, rounded as it is shown; None without any."""
    for info in summary.metrics:
        found = summary.estimates.get(Quantity(info, initial=True).key)
        if found is not None:
            return round(found.mean, info.digits)
    return None


def _place(axis: AxisName | None, summary: Summary) -> float:
    """A point's place on the axis: the true rate, padding included, or the mean SNR over fades."""
    if axis == "rate":
        return summary.rate
    if axis == "snr":
        return summary.nominal_snr_db
    return float(summary.num_inference_steps or 0)


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
    steps = {
        summary.num_inference_steps
        for summary in summaries
        if summary.num_inference_steps is not None
    }
    return XAxis("sampling steps", "log", _ticks({step: str(step) for step in steps}, log2))


def _ticks(
    texts: Mapping[float, str], position: Callable[[float], float] = float
) -> tuple[tuple[float, str], ...]:
    """The values that have room for their text."""
    values = sorted(texts)
    room = (position(values[-1]) - position(values[0])) / MOST_TICKS
    kept = values[:1]
    for value in values[1:]:
        if position(value) - position(kept[-1]) >= room:
            kept.append(value)
    return tuple((value, texts[value]) for value in kept)

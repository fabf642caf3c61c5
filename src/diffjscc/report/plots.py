"""Panels of curves or points, one per metric, as PNG, PDF or SVG."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from diffjscc.choices import PlotFormat
from diffjscc.data.files import atomic_write
from diffjscc.evaluation.statistics import Quantity, Summary, bias_note
from diffjscc.metrics.catalogue import (
    OUTAGE,
    SECONDS,
    MetricInfo,
    frechet_256_info,
    frechet_info,
    kernel_info,
)
from diffjscc.report.fonts import families, one_warning
from diffjscc.report.means import kernel_distance
from diffjscc.report.styles import INITIAL_DASH, Style

COLUMNS = 3
PANEL = (2.4, 1.9)  # inches: three columns are as wide as a page of a journal
LETTER = 0.06  # inches, of text in 8 points
FEWEST_IMAGES = 5  # that an interval is shown of: with fewer it is wider than all differences

FORMATS: tuple[PlotFormat, ...] = ("png", "pdf")


def house_style() -> AbstractContextManager[None]:
    """Set fonts and lines while a plot is made or written; afterwards all is as it was."""
    return matplotlib.rc_context(
        {
            "font.family": families(),
            "font.size": 8,
            "axes.labelsize": 8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E4E4E4",
            "grid.linewidth": 0.5,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "legend.fontsize": 7.5,
            "legend.frameon": False,
            "lines.linewidth": 1.3,
            "lines.markersize": 4.2,
            "svg.hashsalt": "diffjscc",  # the same results give the same file
            "svg.fonttype": "path",
            "pdf.fonttype": 42,  # letters that a drawing program can edit
            "text.parse_math": False,  # schemes have their names from users
        }
    )


@dataclass(frozen=True)
class Condition:
    """Operating conditions held fixed in a plot; None for the one that it runs over."""

    channel: str
    rate: str | None
    snr_db: float | None

    def title(self) -> str:
        """Title of a plot."""
        channel = "AWGN" if self.channel == "awgn" else self.channel[:1].upper() + self.channel[1:]
        rate = "" if self.rate is None else f", R = {self.rate}"
        snr = "" if self.snr_db is None else f", SNR {self.snr_db:g} dB"
        return f"{channel}{rate}{snr}"

    def suffix(self, others: Collection[Condition]) -> str:
        """End of a file's name that distinguishes it from the others."""
        parts = [self.channel] if len({other.channel for other in others}) > 1 else []
        if self.rate is not None and len({other.rate for other in others}) > 1:
            parts.append(self.rate)
        if self.snr_db is not None and len({other.snr_db for other in others}) > 1:
            parts.append(f"{self.snr_db:g}dB")
        return "".join("-" + re.sub(r"[^\w.-]+", "-", part) for part in parts)


@dataclass(frozen=True)
class Panel:
    """A metric on its own axes.

    Attributes:
        info: the metric, or a distance.
        features: that the distance is taken on; None for a metric.
    """

    info: MetricInfo
    features: str | None = None

    def value(self, summary: Summary, initial: bool) -> tuple[float, float, float] | None:
        """Mean and both ends of its interval, within the metric's bounds; None without a value.

        The interval is the mean alone for distances, and of fewer than `FEWEST_IMAGES` images.
        """
        if self.features is not None:
            distance = None if initial else self._distance(self.features, summary)
            return None if distance is None else (distance, distance, distance)
        found = summary.estimates.get(Quantity(self.info, initial).key)
        if found is None:
            return None
        if found.images < FEWEST_IMAGES:
            return found.mean, found.mean, found.mean
        least, most = self.info.bounds
        low = found.low if least is None else max(found.low, min(least, found.mean))
        high = found.high if most is None else min(found.high, max(most, found.mean))
        return found.mean, low, high

    def _distance(self, features: str, summary: Summary) -> float | None:
        """A distance between sets of patches; no kernel distance of a few patches."""
        if self.info.name == "kernel":
            kernel = kernel_distance(features, summary)
            return None if kernel is None else kernel[0]
        found = summary.distances.get(features)
        distance: float | None = None if found is None else getattr(found, self.info.name)
        return distance


def panels_of(summaries: Sequence[Summary], with_seconds: bool = False) -> list[Panel]:
    """A panel for each metric that any point has; one for outages, if there were any."""
    present = {name for summary in summaries for name in summary.estimates}
    metrics = dict.fromkeys(info for summary in summaries for info in summary.metrics)
    found = [Panel(info) for info in metrics if info.name in present]
    for features in dict.fromkeys(key for summary in summaries for key in summary.distances):
        for info in (frechet_info(features), frechet_256_info(features), kernel_info(features)):
            panel = Panel(info, features)
            if any(panel.value(summary, initial=False) for summary in summaries):
                found.append(panel)
    outages = [one.estimates[OUTAGE.name] for one in summaries if OUTAGE.name in one.estimates]
    if any(rate.mean for rate in outages):
        found.append(Panel(OUTAGE))
    if with_seconds:
        found.append(Panel(SECONDS))
    return found


@dataclass(frozen=True)
class Curve:
    """Operating points that belong together.

    Attributes:
        label: for the legend.
        style: colour, marker and dash.
        points: (x, summary), by x.
        initial: metrics are those of the initial images.
        level: one point that has no x, a horizontal line to compare with.
    """

    label: str
    style: Style
    points: tuple[tuple[float, Summary], ...]
    initial: bool = False
    level: bool = False

    def look(self) -> dict[str, Any]:
        """Colour, marker and line, as keywords of `Axes.plot`."""
        style = self.style
        return {
            "color": style.colour,
            "marker": "none" if self.level else style.marker,
            "linestyle": INITIAL_DASH if self.initial else "--" if self.level else style.dash,
            "markerfacecolor": "white" if self.initial else style.colour,
        }


@dataclass(frozen=True)
class XAxis:
    """Horizontal axis of curves.

    Attributes:
        label: with its unit.
        scale: "linear", or "log" with base 2.
        ticks: values and their texts; all of them are in sight.
    """

    label: str
    scale: Literal["linear", "log"]
    ticks: tuple[tuple[float, str], ...]


def curves_figure(
    curves: Sequence[Curve], panels: Sequence[Panel], axis: XAxis, title: str
) -> Figure:
    """Plot a panel per metric with all curves and bands of 95 % confidence."""
    with house_style():
        figure, axes = _grid(len(panels), PANEL[1])
        for panel, ax in zip(panels, axes, strict=True):
            for curve in curves:
                _plot_curve(ax, curve, panel)
            if axis.scale == "log":
                ax.set_xscale("log", base=2)
            ax.xaxis.set_major_locator(FixedLocator([value for value, _ in axis.ticks]))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_xticklabels([text for _, text in axis.ticks])
            ax.update_datalim([(value, ax.dataLim.y0) for value, _ in axis.ticks])
            ax.autoscale_view()
            ax.set_ylim(_limits(panel, curves))
            ax.set_xlabel(axis.label)
            ax.set_ylabel(_in_lines(panel.info.heading))
            _say_direction(ax, panel, "↑" if panel.info.higher_is_better else "↓")
        _head(figure, title, "bands", curves, panels)
        _legend(figure, axes)
    return figure


def points_figure(curves: Sequence[Curve], panels: Sequence[Panel], title: str) -> Figure:
    """Plot a panel per metric with a line of text, a point and an interval per curve."""
    with house_style():
        figure, axes = _grid(len(panels), 0.85 + 0.24 * len(curves), sharey=True)
        for number, (panel, ax) in enumerate(zip(panels, axes, strict=True)):
            for place, curve in enumerate(curves):
                found = panel.value(curve.points[0][1], curve.initial)
                if found is None:
                    continue
                mean, low, high = found
                spread = [[mean - low], [high - mean]] if high > low else None
                ax.errorbar(
                    [mean], [place], xerr=spread, label=curve.label, capsize=2.5, **curve.look()
                )
            ax.set_xlim(_limits(panel, curves))
            ax.set_ylim(len(curves) - 0.4, -0.6)
            ax.yaxis.set_major_locator(FixedLocator(range(len(curves))))
            ax.set_yticklabels([textwrap.fill(curve.label, 32) for curve in curves])
            ax.tick_params(axis="y", length=0, labelleft=number % COLUMNS == 0, labelsize=8)
            ax.grid(visible=False, axis="y")
            ax.set_xlabel(_in_lines(panel.info.heading))
            _say_direction(ax, panel, "→" if panel.info.higher_is_better else "←")
        _head(figure, title, "bars", curves, panels)
    return figure


def save(
    figure: Figure,
    output: Path,
    name: str,
    formats: Sequence[PlotFormat] = FORMATS,
    dpi: int = 200,
) -> list[Path]:
    """Write NAME.png, NAME.pdf and so on, atomically; the same for the same results."""
    written = []
    # None holds the version that wrote it, nor the day.
    metadata: dict[PlotFormat, dict[str, None]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    with house_style(), one_warning():
        if figure.get_layout_engine() is not None:
            # Laid out once for all formats, each of which would do it anew.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        for suffix in formats:
            path = output / f"{name}.{suffix}"
            with atomic_write(path) as temporary:
                figure.savefig(temporary, format=suffix, dpi=dpi, metadata=metadata[suffix])
            written.append(path)
    return written


def _grid(count: int, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A plot of `count` panels, at most `COLUMNS` beside each other."""
    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    # A single panel is wider, so that the legend below it has room.
    width = max(PANEL[0] * columns, 1.5 * PANEL[0])
    figure = Figure(figsize=(width, height * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def _plot_curve(ax: Axes, curve: Curve, panel: Panel) -> None:
    found = [(x, panel.value(summary, curve.initial)) for x, summary in curve.points]
    points = [(x, *value) for x, value in found if value is not None]
    if not points:
        return
    x, mean, low, high = (list(values) for values in zip(*points, strict=True))
    look = curve.look()
    ax.plot(x, mean, label=curve.label, **look)
    if low != high:
        if len(x) == 1:
            ax.vlines(x, low, high, color=look["color"])
        else:
            alpha = 0.07 if curve.level else 0.15
            ax.fill_between(x, low, high, color=look["color"], alpha=alpha, linewidth=0)


def _limits(panel: Panel, curves: Sequence[Curve]) -> tuple[float, float]:
    """Ends of a metric's axis: the means fill about half of it, however wide intervals are."""
    found = [panel.value(one, curve.initial) for curve in curves for _, one in curve.points]
    values = [value for value in found if value is not None]
    means = [mean for mean, _, _ in values]
    least, most = min(means, default=0.0), max(means, default=1.0)
    span = most - least or abs(most) * 0.1 or 1.0
    low = max(min((low for _, low, _ in values), default=least), least - span / 2)
    high = min(max((high for _, _, high in values), default=most), most + span / 2)
    return low - 0.06 * span, high + 0.06 * span


def _in_lines(label: str) -> str:
    """Put brackets on a line of their own: panels are narrow."""
    return label.replace(" (", "\n(")


def _say_direction(ax: Axes, panel: Panel, arrow: str) -> None:
    word = "higher" if panel.info.higher_is_better else "lower"
    ax.set_title(f"{arrow} {word} is better", loc="right", fontsize=6.5, color="#666666", pad=3)


def _head(
    figure: Figure, title: str, shape: str, curves: Sequence[Curve], panels: Sequence[Panel]
) -> None:
    """Write the title, and the meaning of `shape` if there is any."""
    found = [
        panel.value(summary, curve.initial)
        for curve in curves
        for _, summary in curve.points
        for panel in panels
    ]
    spread = any(value is not None and value[2] > value[1] for value in found)
    words = f"{title} ({shape}: 95 % confidence)" if spread else title
    note = bias_note([summary for curve in curves for _, summary in curve.points])
    if note and any(panel.features is not None for panel in panels):
        words = f"{words}. {note}"
    figure.suptitle(textwrap.fill(words, int(figure.get_figwidth() / LETTER)), fontsize=8)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One for all panels, below them, as wide as the plot has room for."""
    entries = {str(line.get_label()): line for ax in axes for line in ax.lines}
    width, line = figure.get_figwidth(), 0.6  # inches: what stands before each label
    labels = [textwrap.fill(label, int((width - line) / LETTER)) for label in entries]
    most = max(1, int(width / (line + LETTER * max(map(len, labels)))))
    rows = math.ceil(len(entries) / most)
    figure.set_figheight(figure.get_figheight() + 0.16 * rows)
    legend = figure.legend(
        entries.values(),
        ["label"] * len(entries),
        loc="outside lower center",
        ncols=math.ceil(len(entries) / rows),
    )
    # Afterwards: matplotlib leaves out labels that begin with an underscore.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)

"""Drawing of what a receiver repairs and breaks over the capacity, and of its strength."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

from diffjscc.evaluation.benefit import Benefit
from diffjscc.refiners.sampling import ByBits, at_bits
from diffjscc.report.plots import house_style
from diffjscc.report.styles import BLACK, COLOURS, MARKERS

SIZE = (6.4, 2.6)  # inches
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # bits per pixel


def benefit_figure(benefits: Sequence[Benefit], strength: ByBits) -> Figure:
    """Draw the change of LPIPS at each point, and the shares of it that were repaired and broken.

    Left: the fall of LPIPS with its 95 % interval, and the receiver's strength as a shaded area.
    Right: what was repaired, filled markers, and what was broken, hollow ones.

    Args:
        benefits: at least one.
        strength: the curve that was chosen by them.
    """
    with house_style():
        figure = Figure(figsize=SIZE, layout="constrained")
        left, right = figure.subplots(1, 2)
        rates = list(dict.fromkeys(one.rate for one in benefits))
        for number, rate in enumerate(rates):
            points = sorted((one for one in benefits if one.rate == rate), key=lambda p: p.bits)
            bits = [one.bits for one in points]
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            look = {"color": colour, "marker": marker}
            left.errorbar(
                bits,
                [one.net for one in points],
                [one.half_width for one in points],
                label=f"R = {rate}",
                elinewidth=0.8,
                **look,
            )
            right.plot(bits, [one.repaired for one in points], **look)
            right.plot(
                bits, [one.broken for one in points], linestyle=":", markerfacecolor="white", **look
            )
        ends = [one.bits for one in benefits]
        grid = np.geomspace(min(ends) / 1.2, max(ends) * 1.2, 400)
        low, high = left.get_ylim()
        factors = np.array([at_bits(strength, float(bits)) for bits in grid])
        left.fill_between(
            grid, low, low + factors * (high - low), color="#EEF3F7", zorder=0, linewidth=0
        )
        left.set_ylim(low, high)
        left.axhline(0, color=BLACK, linewidth=0.6)
        left.set_ylabel("fall of LPIPS by the receiver")
        right.set_ylabel("LPIPS repaired, and broken (dotted)")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(TICKS))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("capacity in bits per pixel")
        left.legend(loc="upper right")
    return figure

"""Figures of the page: the received constellation, and quality over SNR."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from diffjscc.symbols import Received
from diffjscc.web.engine import Curve
from diffjscc.web.shown import Pixels

MOST_POINTS = 4000  # more only make a blot
EXTENT = 3.0  # of the constellation's axes, in units of the symbols' rms
COLOURS = ("#1f6feb", "#b35900")


def constellation(received: Received) -> Pixels:
    """Plot the equalised received symbols of the first image in the complex plane.

    Returns:
        uint8 [H, W, 3].
    """
    points = received.equalised[0].cpu().numpy()
    some = points[:: -(-len(points) // MOST_POINTS)]
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(some.real, some.imag, ".", color=COLOURS[0], markersize=2, alpha=0.5)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set(
        xlim=(-EXTENT, EXTENT),
        ylim=(-EXTENT, EXTENT),
        aspect="equal",
        xlabel="in-phase",
        ylabel="quadrature",
        title=f"{len(points):,} symbols at {float(received.snr_db[0]):.1f} dB",
    )
    return _pixels(figure)


def quality_over_snr(curves: Sequence[Curve], snr_db: float) -> Pixels:
    """Plot PSNR over the channel's SNR, with the SNR that the transmitters were set for.

    Returns:
        uint8 [H, W, 3].
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for curve, colour in zip(curves, COLOURS, strict=False):
        axes.plot(curve.snr_db, curve.psnr, "o-", color=colour, markersize=4, label=curve.name)
        lost = [place for place, outage in enumerate(curve.outage) if outage]
        if lost:
            axes.plot(
                [curve.snr_db[place] for place in lost],
                [curve.psnr[place] for place in lost],
                "x",
                color=colour,
                markersize=9,
                label=f"{curve.name}: outage",
            )
    axes.axvline(snr_db, color="0.6", linestyle="--", linewidth=1)
    axes.annotate(
        "transmitter set for",
        (snr_db, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -12),
        textcoords="offset points",
        fontsize=8,
        color="0.35",
    )
    axes.set(xlabel="SNR of the channel / dB", ylabel="PSNR / dB")
    axes.grid(color="0.9")
    axes.legend(frameon=False, loc="lower right")
    return _pixels(figure)


def _pixels(figure: Figure) -> Pixels:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return np.asarray(Image.open(file).convert("RGB"))

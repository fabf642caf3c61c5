"""Colours, markers and dashes of curves: a scheme has one colour in all figures."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Okabe and Ito's colours, but for yellow, which is too pale for a line: readable by the
# colour-blind.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)))
INITIAL_DASH: Any = (0, (1, 1.2))

# Names of schemes, and of the paper's experiments, up to a comma.
KNOWN = {
    "deepjscc": BLUE,
    "diffjscc": VERMILION,
    "adv": GREEN,
    "deepjscc-adv": GREEN,
    "ddnm": PURPLE,
    "bpg-ldpc": ORANGE,
    "bpg-capacity": SKY,
    "spatial": GREEN,
    "spatial + snr": VERMILION,
    "spatial + snr + text": PURPLE,
    "without captions": VERMILION,
    "with captions": PURPLE,
    "own sampler": VERMILION,
    "ddpm from noise": BLUE,
}


@dataclass(frozen=True)
class Style:
    """Look of a curve.

    Attributes:
        colour: that of its scheme.
        marker: of its points.
        dash: of its line.
    """

    colour: str
    marker: str
    dash: Any


def colour_of(label: str) -> str:
    """The colour of a scheme, from its name alone, so that it stays when others join.

    What follows a comma, such as a modulation or an SNR, does not count.
    """
    name = label.partition(",")[0].strip().lower()
    return KNOWN.get(name, COLOURS[zlib.crc32(name.encode()) % len(COLOURS)])


def styles_of(labels: Sequence[str]) -> dict[str, Style]:
    """Styles of the curves of one figure: curves of one colour differ in marker and dash."""
    styles: dict[str, Style] = {}
    used = dict.fromkeys(COLOURS, 0)
    for label in labels:
        colour = colour_of(label)
        number, first = used[colour], COLOURS.index(colour)
        used[colour] += 1
        marker = MARKERS[(first + number) % len(MARKERS)]
        styles[label] = Style(colour, marker, DASHES[number % len(DASHES)])
    return styles

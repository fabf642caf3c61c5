"""What a sweep is made of, decided before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product

from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.records import OperatingPoint
from diffjscc.evaluation.results import ImageInfo
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig


@dataclass(frozen=True)
class Point:
    """A scheme over a channel at a rate and an SNR: one cell of the results.

    Attributes:
        index: its place in the plan.
        scheme, channel, rate, snr_db: as the settings have them.
    """

    index: int
    scheme: SchemeConfig
    channel: ChannelConfig
    rate: str
    snr_db: float

    @property
    def cell(self) -> OperatingPoint:
        """As `Record.cell`."""
        return self.scheme.name, self.channel.label, self.rate, self.snr_db


@dataclass(frozen=True)
class Unit:
    """Transmissions that one process makes and writes down together: `images` x `repeats`.

    Attributes:
        point: where.
        images: indices of images of one size.
        repeats: transmissions of each.
        at_once: of them that are received together.
    """

    point: Point
    images: tuple[int, ...]
    repeats: int
    at_once: int

    @property
    def sent(self) -> list[tuple[int, int]]:
        """(image, repeat) of every transmission, in order."""
        return [(index, repeat) for index in self.images for repeat in range(self.repeats)]


def make_points(config: SweepConfig) -> list[Point]:
    """Every cell, schemes outermost, so that one scheme's networks are busy at a time."""
    axes = product(config.schemes, config.channels, config.rates, config.snrs_db)
    return [Point(index, *values) for index, values in enumerate(axes)]


def make_units(config: SweepConfig, sent: Sequence[ImageInfo]) -> list[Unit]:
    """Every unit of work, in order.

    All repeats of an image are in one unit, since they share its encoding. Neighbours of one size
    are with it, as far as `megapixels` goes, unless they would take different numbers of channel
    uses.
    """
    units = []
    for point in make_points(config):
        alone = point.scheme.digital.quality is not None
        for (width, height), group in groupby(range(len(sent)), lambda i: sent[i].size):
            indices = tuple(group)
            at_once = max(1, int(config.megapixels * 1e6 / (width * height)))
            together = 1 if alone else max(1, at_once // config.repeats)
            units += [
                Unit(point, indices[first : first + together], config.repeats, at_once)
                for first in range(0, len(indices), together)
            ]
    return units

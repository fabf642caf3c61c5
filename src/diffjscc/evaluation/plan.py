"""Plan of a sweep: operating points and units of work, decided before anything runs."""

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
class PlannedPoint:
    """A scheme over a channel at a rate and an SNR.

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
    def point(self) -> OperatingPoint:
        """As records have it."""
        return OperatingPoint(self.scheme.name, self.channel.label, self.rate, self.snr_db)


@dataclass(frozen=True)
class Unit:
    """Transmissions that one process makes and writes down together: `images` x `repeats`.

    Attributes:
        point: the operating point.
        images: indices of images of one size.
        repeats: transmissions of each.
        at_once: of them that are received together.
    """

    point: PlannedPoint
    images: tuple[int, ...]
    repeats: int
    at_once: int

    @property
    def transmissions(self) -> list[tuple[int, int]]:
        """(image, repeat) of every transmission, in order."""
        return [(index, repeat) for index in self.images for repeat in range(self.repeats)]


def make_points(config: SweepConfig) -> list[PlannedPoint]:
    """List every operating point, schemes outermost: one scheme's networks are busy at a time."""
    axes = product(config.schemes, config.channels, config.rates, config.snrs_db)
    return [PlannedPoint(index, *values) for index, values in enumerate(axes)]


def make_units(config: SweepConfig, images: Sequence[ImageInfo]) -> list[Unit]:
    """List every unit of work, in order.

    All repeats of an image are in one unit, since they share its encoding. Neighbours of one size
    are with it, as far as `megapixels` goes, unless they would take different numbers of channel
    uses.
    """
    units = []
    for point in make_points(config):
        alone = point.scheme.digital.quality is not None
        for (width, height), group in groupby(range(len(images)), lambda i: images[i].size):
            indices = tuple(group)
            at_once = max(1, int(config.megapixels * 1e6 / (width * height)))
            together = 1 if alone else max(1, at_once // config.repeats)
            units += [
                Unit(point, indices[first : first + together], config.repeats, at_once)
                for first in range(0, len(indices), together)
            ]
    return units

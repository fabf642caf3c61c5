"""What a sweep is made of, decided before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product

from diffjscc.channels.choice import ChannelChoice
from diffjscc.evaluation.config import SchemeChoice, SweepConfig
from diffjscc.evaluation.results import Sent
from diffjscc.evaluation.rows import CellKey


@dataclass(frozen=True)
class Point:
    """A scheme over a channel at a rate and an SNR: one cell of the results.

    Attributes:
        index: its place in the plan.
        scheme, channel, rate, snr_db: as the settings have them.
    """

    index: int
    scheme: SchemeChoice
    channel: ChannelChoice
    rate: str
    snr_db: float

    @property
    def cell(self) -> CellKey:
        """As `Row.cell`."""
        return self.scheme.name, self.channel.label, self.rate, self.snr_db


@dataclass(frozen=True)
class Unit:
    """Transmissions that are computed together: all of `pictures` x `repeats` at one point.

    Attributes:
        point: where.
        pictures: indices of pictures of one size.
        repeats: numbers of transmissions.
    """

    point: Point
    pictures: tuple[int, ...]
    repeats: tuple[int, ...]

    @property
    def transmissions(self) -> int:
        """How many there are."""
        return len(self.pictures) * len(self.repeats)


def make_points(config: SweepConfig) -> list[Point]:
    """Every cell, schemes outermost, so that one scheme's networks are busy at a time."""
    axes = product(config.schemes, config.channels, config.rates, config.snrs_db)
    return [Point(index, *values) for index, values in enumerate(axes)]


def make_units(config: SweepConfig, sent: Sequence[Sent]) -> list[Unit]:
    """Every unit of work, in order."""
    batches = list(_batches(sent, config.repeats, config.megapixels))
    return [Unit(point, *batch) for point in make_points(config) for batch in batches]


def _batches(
    sent: Sequence[Sent], repeats: int, megapixels: float
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(pictures, repeats) of at most so many megapixels, or of one transmission.

    Neighbours of one size go together; all repeats of a picture do where they fit, since they
    share its encoding.
    """
    for (width, height), group in groupby(range(len(sent)), lambda i: sent[i].size):
        indices = list(group)
        room = max(1, int(megapixels * 1e6 / (width * height)))
        together, rounds = max(1, room // repeats), min(room, repeats)
        for first in range(0, len(indices), together):
            for start in range(0, repeats, rounds):
                stop = min(start + rounds, repeats)
                yield tuple(indices[first : first + together]), tuple(range(start, stop))

"""Plan of a sweep: operating points and units of work, decided before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby, product

from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.journal import Key
from diffjscc.evaluation.records import OperatingPoint
from diffjscc.evaluation.results import ImageInfo
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig

CHUNK = 4  # batches of a unit, at most


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
        repeats: numbers of the transmissions of each.
        at_once: transmissions that are received together.
    """

    point: PlannedPoint
    images: tuple[int, ...]
    repeats: Sequence[int]
    at_once: int

    @property
    def transmissions(self) -> list[tuple[int, int]]:
        """(image, repeat) of every transmission, in order."""
        return [(index, repeat) for index in self.images for repeat in self.repeats]


def make_points(config: SweepConfig) -> list[PlannedPoint]:
    """List every operating point, schemes outermost: one scheme's networks are busy at a time."""
    axes = product(config.schemes, config.channels, config.rates, config.snrs_db)
    return [PlannedPoint(index, *values) for index, values in enumerate(axes)]


def make_units(
    config: SweepConfig, images: Sequence[ImageInfo], finished: Collection[Key] = ()
) -> list[Unit]:
    """List every unit of work, in order: schemes outermost, and of each one image after another.

    What metrics need of an image is then kept for all operating points of a scheme.

    Repeats of an image are in one unit, since they share its encoding, up to `CHUNK` times what is
    received at once, for bounded memory. Neighbours of one size are with it, as far as `megapixels`
    goes, unless they would take different numbers of channel uses.

    Args:
        config: of the sweep.
        images: of the sweep.
        finished: transmissions that need not be made.
    """
    units, points = list[Unit](), make_points(config)
    for point in points:
        alone = point.scheme.varies_uses
        alike = [(image.size, _lacking(point, image, config.repeats, finished)) for image in images]
        for (size, repeats), group in groupby(range(len(images)), alike.__getitem__):
            indices = tuple(group)
            at_once = max(1, int(config.megapixels * 1e6 / (size[0] * size[1])))
            for begin in range(0, len(repeats), CHUNK * at_once):
                chunk = repeats[begin : begin + CHUNK * at_once]
                together = 1 if alone else max(1, at_once // len(chunk))
                units += [
                    Unit(point, indices[first : first + together], chunk, at_once)
                    for first in range(0, len(indices), together)
                ]
    per_scheme = len(points) // len(config.schemes)
    return sorted(units, key=lambda unit: (unit.point.index // per_scheme, unit.images[0]))


def _lacking(
    point: PlannedPoint, image: ImageInfo, repeats: int, finished: Collection[Key]
) -> Sequence[int]:
    """Repeats of an image that are not finished at a point."""
    if not finished:
        return range(repeats)
    return tuple(
        repeat for repeat in range(repeats) if Key(point.point, image.name, repeat) not in finished
    )

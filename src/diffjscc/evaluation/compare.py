"""Paired comparison of two folders of results, transmission by transmission."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffjscc.configuration import closest
from diffjscc.evaluation.records import OperatingPoint, PointDistances, Record
from diffjscc.evaluation.results import Results
from diffjscc.evaluation.statistics import (
    Estimate,
    Quantity,
    estimate,
    metrics_of,
    quantities,
)
from diffjscc.metrics.catalogue import OUTAGE, SECONDS, frechet_info

Outcome = Literal["better", "worse", "same"]
Repeat = tuple[str, int]  # image and number

FRECHET = "frechet"


def default_tolerances(results: Sequence[Results]) -> dict[str, float]:
    """Largest change that counts as none, by key, see `MetricInfo.tolerance`.

    Pairs share their noise, so that even a rounding error may have an interval without zero in it.
    A Fréchet distance has no pairs, and its size depends on the number of patches: its tolerance is
    a fraction of the distance before. Seconds depend on the machine: they are compared only where
    a tolerance is given.
    """
    known = quantities(metrics_of(results))
    limits = {
        key: quantity.info.tolerance for key, quantity in known.items() if quantity.info != SECONDS
    }
    return limits | {FRECHET: frechet_info("").tolerance}


@dataclass(frozen=True)
class Difference:
    """Change of one quantity at one operating point.

    Attributes:
        scheme, channel, nominal_rate, nominal_snr_db: see `OperatingPoint`.
        quantity: see `Quantity.key`; "frechet" for a distance.
        label: its name for readers.
        digits: after the decimal point.
        before, after: means over the transmissions that both have, or the distances.
        change: after - before; paired, with an interval, but of a distance only the difference.
        tolerance: in the quantity's own unit.
        outcome: "worse" if the whole interval (the mean where there is none) lies beyond the
            tolerance on the worse side, "better" likewise, otherwise "same".
    """

    scheme: str
    channel: str
    nominal_rate: str
    nominal_snr_db: float
    quantity: str
    label: str
    digits: int
    before: float
    after: float
    change: Estimate
    tolerance: float
    outcome: Outcome


def compare(
    before: Results, after: Results, tolerances: Mapping[str, float] | None = None
) -> list[Difference]:
    """Compare what both folders have: each quantity at each point, on the same transmissions.

    Args:
        before: the reference.
        after: the candidate.
        tolerances: by quantity, in its unit, at least 0, of "frechet" a fraction; only quantities
            in it are compared. `default_tolerances` if None.

    Raises:
        ValueError: a quantity is unknown, a tolerance negative, the folders share no transmission,
            or an image or seed in one is another one in the other.
    """
    known = quantities(metrics_of([before, after]))
    limits = default_tolerances([before, after]) if tolerances is None else tolerances
    for name, tolerance in limits.items():
        if name not in known and name != FRECHET:
            raise ValueError(f"{name} is nothing to compare: {closest(name, (*known, FRECHET))}")
        if not tolerance >= 0:
            raise ValueError(f"the tolerance of {name} is {tolerance:g}; give at least 0")
    old, new = _side(before), _side(after)
    found: list[Difference] = []
    for point, both in _pairs(old, new).items():
        for name, tolerance in limits.items():
            if name == FRECHET:
                found += _of_distances(point, both, old, new, tolerance)
            else:
                found += _of_records(point, both, known[name], tolerance)
    return found


def remarks(before: Results, after: Results) -> list[str]:
    """List what `compare` leaves out, and where the cost differs: a sentence each.

    Raises:
        ValueError: see `compare`.
    """
    known = quantities(metrics_of([before, after]))
    old, new = _side(before), _side(after)
    found = []
    for one, other in ((old, new), (new, old)):
        for point, records in one.records.items():
            if point not in other.records:
                found.append(f"only {one.folder} has {point}")
                continue
            alone = len(records.keys() - other.records[point].keys())
            if alone:
                found.append(f"only {one.folder} has {alone} transmissions of {point}")
            for quantity in known.values():
                if quantity.info == OUTAGE and not any(one.outage for one in records.values()):
                    continue  # none, or in records that are older than the flag
                if _has(records, quantity) and not _has(other.records[point], quantity):
                    found.append(f"only {one.folder} has {quantity.label} of {point}")
    for point, features in dict.fromkeys((*old.distances, *new.distances)):
        both_sent = point in old.records and point in new.records
        if both_sent and not _same_set(old, new, point, features):
            found.append(
                f"{frechet_info(features).label} of {point} is not on the same patches in both, "
                "or only one has it"
            )
    for point, both in _pairs(old, new).items():
        was, now = (
            statistics.fmean(record.channel_uses for record in records)
            for records in zip(*both, strict=True)
        )
        if was != now:
            found.append(
                f"{point} takes {was:,.0f} channel uses a transmission in {old.folder}, "
                f"{now:,.0f} in {new.folder}"
            )
    return found


def vanished(before: Results, after: Results) -> list[str]:
    """List what was sent before and is not any more: schemes, images, failures; a sentence each."""
    found = []
    for kind in ("scheme", "image"):
        old, new = ({getattr(one, kind) for one in part.records} for part in (before, after))
        found += [f"{kind} {name} has vanished from {after.folder}" for name in sorted(old - new)]
    sent = {(one.point, one.image) for one in before.records}
    lost = dict.fromkeys((one.point, one.image) for one in after.absent)
    found += [
        f"{image} could be sent by {point} in {before.folder}, but not in {after.folder}"
        for point, image in lost
        if (point, image) in sent
    ]
    return found


@dataclass(frozen=True)
class _Side:
    """A folder's records by point, image and repeat, and its distances by point and features."""

    folder: Path
    records: dict[OperatingPoint, dict[Repeat, Record]]
    distances: dict[tuple[OperatingPoint, str], PointDistances]


def _side(results: Results) -> _Side:
    records: dict[OperatingPoint, dict[Repeat, Record]] = {}
    for record in results.records:
        records.setdefault(record.point, {})[record.image, record.repeat] = record
    distances = {(one.point, one.features): one for one in results.distances}
    return _Side(results.folder, records, distances)


def _pairs(old: _Side, new: _Side) -> dict[OperatingPoint, list[tuple[Record, Record]]]:
    """Pair the same transmissions; raises ValueError where they cannot be compared."""
    pairs: dict[OperatingPoint, list[tuple[Record, Record]]] = {}
    for point, records in old.records.items():
        for sent, one in records.items():
            other = new.records.get(point, {}).get(sent)
            if other is None:
                continue
            for name, what in (("image_hash", "pixels"), ("seed", "seed")):
                was, now = getattr(one, name), getattr(other, name)
                if was != now:
                    raise ValueError(
                        f"the {what} of {one.image}, repeat {one.repeat}, in {point}: {was} in "
                        f"{old.folder}, {now} in {new.folder}; only runs on the same images with "
                        "the same seed can be compared"
                    )
            pairs.setdefault(point, []).append((one, other))
    if not pairs:
        raise ValueError(
            f"{old.folder} and {new.folder} have no transmission in common; only runs with the "
            "same names of schemes, channels, rates, SNRs and images can be compared"
        )
    return pairs


def _of_records(
    point: OperatingPoint,
    both: Sequence[tuple[Record, Record]],
    quantity: Quantity,
    tolerance: float,
) -> list[Difference]:
    """The difference in one quantity; none where it is missing."""
    values = [(one.image, quantity.of(one), quantity.of(other)) for one, other in both]
    present = [
        (image, before, after)
        for image, before, after in values
        if before is not None and after is not None
    ]
    if not present:
        return []
    change = estimate((image, after - before) for image, before, after in present)
    return [
        Difference(
            *point,
            quantity=quantity.key,
            label=quantity.label,
            digits=quantity.info.digits,
            before=estimate((image, before) for image, before, _ in present).mean,
            after=estimate((image, after) for image, _, after in present).mean,
            change=change,
            tolerance=tolerance,
            outcome=_outcome(change, quantity.info.higher_is_better, tolerance),
        )
    ]


def _of_distances(
    point: OperatingPoint,
    both: Sequence[tuple[Record, Record]],
    old: _Side,
    new: _Side,
    fraction: float,
) -> list[Difference]:
    """The differences in Fréchet distance between equal sets, for each network of features."""
    found = []
    for there, features in old.distances:
        if there == point and _same_set(old, new, point, features):
            before = old.distances[point, features].frechet
            after = new.distances[point, features].frechet
            images = len({record.image for record, _ in both})
            change = Estimate(after - before, None, images, len(both))
            info = frechet_info(features)
            found.append(
                Difference(
                    *point,
                    quantity=FRECHET,
                    label=info.heading,
                    digits=info.digits,
                    before=before,
                    after=after,
                    change=change,
                    tolerance=fraction * before,
                    outcome=_outcome(change, info.higher_is_better, fraction * before),
                )
            )
    return found


def _outcome(change: Estimate, higher_is_better: bool, tolerance: float) -> Outcome:
    gain = (change.low, change.high) if higher_is_better else (-change.high, -change.low)
    if gain[1] < -tolerance:
        return "worse"
    return "better" if gain[0] > tolerance else "same"


def _same_set(old: _Side, new: _Side, point: OperatingPoint, features: str) -> bool:
    """Return whether both have this distance, on the same transmissions."""
    one, other = old.distances.get((point, features)), new.distances.get((point, features))
    if one is None or other is None or one.patches != other.patches:
        return False
    return old.records[point].keys() == new.records[point].keys()


def _has(records: Mapping[Repeat, Record], quantity: Quantity) -> bool:
    return any(quantity.of(record) is not None for record in records.values())

"""Is one folder of results worse than another? Paired, transmission by transmission."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffjscc.configuration import closest
from diffjscc.evaluation.records import OperatingPoint, Record
from diffjscc.evaluation.results import PointDistances, Results
from diffjscc.evaluation.statistics import (
    INITIAL,
    MERITS,
    Estimate,
    estimate,
    frechet_label,
    merit_of,
)

Verdict = Literal["better", "worse", "same"]
ImageInfo = tuple[str, int]

FRECHET = "frechet"
# Pairs share their noise, so that even a rounding error may have an interval without zero in it:
# smaller changes than these are none. They are a few units of the last digit that papers print. A
# Fréchet distance has no pairs, and its size depends on the number of patches: its tolerance is a
# fraction of the distance before. Seconds depend on the machine and are compared only if asked for.
TOLERANCES: dict[str, float] = {
    "psnr": 0.05,
    "ms_ssim": 0.002,
    "lpips": 0.003,
    "niqe": 0.05,
    "psnr_initial": 0.05,
    "ms_ssim_initial": 0.002,
    "lpips_initial": 0.003,
    "niqe_initial": 0.05,
    "outage": 0.005,
    FRECHET: 0.02,
}
OF_ROWS = (*MERITS, *INITIAL, "outage")
COMPARABLE = (*OF_ROWS, FRECHET)


@dataclass(frozen=True)
class Difference:
    """How one figure of one cell changed.

    Attributes:
        scheme, channel, nominal_rate, nominal_snr_db: the cell, see `Record.cell`.
        figure: a key of `TOLERANCES`, or "seconds".
        label: its name for readers.
        before, after: means over the transmissions that both have, or the distances.
        change: after - before; paired, with an interval, but of a distance only the difference.
        tolerance: in the figure's own unit.
        verdict: "worse" if the whole interval (the mean where there is none) lies beyond the
            tolerance on the worse side, "better" likewise, otherwise "same".
    """

    scheme: str
    channel: str
    nominal_rate: str
    nominal_snr_db: float
    figure: str
    label: str
    before: float
    after: float
    change: Estimate
    tolerance: float
    verdict: Verdict


def compare(
    before: Results, after: Results, tolerances: Mapping[str, float] | None = None
) -> list[Difference]:
    """Compare what both folders have: each figure of each cell, on the same transmissions.

    Args:
        before: what is compared with.
        after: what is judged.
        tolerances: by figure, in its unit, at least 0, of "frechet" a fraction; only figures in it
            are compared. `TOLERANCES` if None.

    Raises:
        ValueError: a figure is unknown, a tolerance negative, the folders share no transmission,
            or an image or seed in one is another one in the other.
    """
    limits = TOLERANCES if tolerances is None else tolerances
    for name, tolerance in limits.items():
        if name not in COMPARABLE:
            raise ValueError(f"{name} is no figure to compare: {closest(name, COMPARABLE)}")
        if not tolerance >= 0:
            raise ValueError(f"the tolerance of {name} is {tolerance:g}; give at least 0")
    old, new = _side(before), _side(after)
    pairs = _pairs(old, new)
    found: list[Difference] = []
    for key, both in pairs.items():
        for name, tolerance in limits.items():
            if name == FRECHET:
                found += _of_distances(key, both, old, new, tolerance)
            else:
                found += _of_rows(key, both, name, tolerance)
    return found


def remarks(before: Results, after: Results) -> list[str]:
    """What `compare` leaves out, and where the cost differs: a sentence each.

    Raises:
        ValueError: see `compare`.
    """
    old, new = _side(before), _side(after)
    told = []
    for one, other in ((old, new), (new, old)):
        for key, rows in one.rows.items():
            if key not in other.rows:
                told.append(f"only {one.folder} has {_named(key)}")
                continue
            alone = len(rows.keys() - other.rows[key].keys())
            if alone:
                told.append(f"only {one.folder} has {alone} transmissions of {_named(key)}")
            for name in OF_ROWS:
                if _has(rows, name) and not _has(other.rows[key], name):
                    told.append(f"only {one.folder} has {_label(name)} of {_named(key)}")
    for key, features in dict.fromkeys((*old.distances, *new.distances)):
        if key in old.rows and key in new.rows and not _same_set(old, new, key, features):
            told.append(
                f"{frechet_label(features)} of {_named(key)} is not on the same patches in both, "
                "or only one has it"
            )
    for key, both in _pairs(old, new).items():
        was, now = (
            statistics.fmean(row.channel_uses for row in rows) for rows in zip(*both, strict=True)
        )
        if was != now:
            told.append(
                f"{_named(key)} takes {was:,.0f} channel uses a transmission in {old.folder}, "
                f"{now:,.0f} in {new.folder}"
            )
    return told


@dataclass(frozen=True)
class _Side:
    """A folder's rows by cell, image and repeat, and its distances by cell and features."""

    folder: Path
    rows: dict[OperatingPoint, dict[ImageInfo, Record]]
    distances: dict[tuple[OperatingPoint, str], PointDistances]


def _side(results: Results) -> _Side:
    rows: dict[OperatingPoint, dict[ImageInfo, Record]] = {}
    for row in results.rows:
        rows.setdefault(row.cell, {})[row.image, row.repeat] = row
    distances = {(cell.key, cell.features): cell for cell in results.cells}
    return _Side(results.folder, rows, distances)


def _pairs(old: _Side, new: _Side) -> dict[OperatingPoint, list[tuple[Record, Record]]]:
    """The same transmissions in both, by cell; raises ValueError where they cannot be compared."""
    pairs: dict[OperatingPoint, list[tuple[Record, Record]]] = {}
    for key, rows in old.rows.items():
        for sent, one in rows.items():
            other = new.rows.get(key, {}).get(sent)
            if other is None:
                continue
            for name, what in (("image_hash", "pixels"), ("seed", "seed")):
                was, now = getattr(one, name), getattr(other, name)
                if was != now:
                    raise ValueError(
                        f"the {what} of {one.image}, repeat {one.repeat}, in {_named(key)}: {was} "
                        f"in {old.folder}, {now} in {new.folder}; only runs on the same images "
                        "with the same seed can be compared"
                    )
            pairs.setdefault(key, []).append((one, other))
    if not pairs:
        raise ValueError(
            f"{old.folder} and {new.folder} have no transmission in common; only runs with the "
            "same names of schemes, channels, rates, SNRs and images can be compared"
        )
    return pairs


def _of_rows(
    key: OperatingPoint, both: Sequence[tuple[Record, Record]], name: str, tolerance: float
) -> list[Difference]:
    """The difference in one figure; none where it is missing."""
    values = [(one.image, getattr(one, name), getattr(other, name)) for one, other in both]
    present = [value for value in values if None not in value]
    if not present:
        return []
    change = estimate((image, after - before) for image, before, after in present)
    return [
        Difference(
            *key,
            figure=name,
            label=_label(name),
            before=estimate((image, before) for image, before, _ in present).mean,
            after=estimate((image, after) for image, _, after in present).mean,
            change=change,
            tolerance=tolerance,
            verdict=_verdict(change, merit_of(name).higher, tolerance),
        )
    ]


def _of_distances(
    key: OperatingPoint,
    both: Sequence[tuple[Record, Record]],
    old: _Side,
    new: _Side,
    fraction: float,
) -> list[Difference]:
    """The differences in Fréchet distance between equal sets, for each network of features."""
    found = []
    for cell, features in old.distances:
        if cell == key and _same_set(old, new, key, features):
            before = old.distances[key, features].frechet
            after = new.distances[key, features].frechet
            images = len({row.image for row, _ in both})
            change = Estimate(after - before, None, images, len(both))
            found.append(
                Difference(
                    *key,
                    figure=FRECHET,
                    label=frechet_label(features),
                    before=before,
                    after=after,
                    change=change,
                    tolerance=fraction * before,
                    verdict=_verdict(change, higher=False, tolerance=fraction * before),
                )
            )
    return found


def _verdict(change: Estimate, higher: bool, tolerance: float) -> Verdict:
    gain = (change.low, change.high) if higher else (-change.high, -change.low)
    if gain[1] < -tolerance:
        return "worse"
    return "better" if gain[0] > tolerance else "same"


def _same_set(old: _Side, new: _Side, key: OperatingPoint, features: str) -> bool:
    """Whether both have this distance, on the same transmissions."""
    one, other = old.distances.get((key, features)), new.distances.get((key, features))
    if one is None or other is None or one.patches != other.patches:
        return False
    return old.rows[key].keys() == new.rows[key].keys()


def _has(rows: Mapping[ImageInfo, Record], name: str) -> bool:
    return any(getattr(row, name) is not None for row in rows.values())


def _label(name: str) -> str:
    label = merit_of(name).label
    return f"{label}, initial image" if name in INITIAL else label


def _named(key: OperatingPoint) -> str:
    scheme, channel, rate, snr_db = key
    return f'"{scheme}" over {channel} at {rate} and {snr_db:g} dB'

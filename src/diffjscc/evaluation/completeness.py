"""Checks that the lines of a results folder are those that its set-up plans, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from pydantic import ValidationError

from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.layout import Layout
from diffjscc.evaluation.lines import ResultsError
from diffjscc.evaluation.records import Absent, OperatingPoint, PointDistances, Record

if TYPE_CHECKING:
    from diffjscc.evaluation.results import Setup


def check_complete(
    layout: Layout,
    setup: Setup,
    records: Sequence[Record],
    absent: Sequence[Absent],
    distances: Sequence[PointDistances],
) -> None:
    """Check that all is there that was planned, where the set-up says what was.

    Raises:
        ResultsError: a transmission, or a distance, is missing or was not planned.
    """
    plan = _planned(setup)
    if plan is None:
        return
    points, count = plan
    planned = {(point, image.name) for point in points for image in setup.images}
    repeats = range(count)
    check_planned(layout, setup, records, absent)
    sent = {(one.point, one.image, one.repeat) for one in records}
    lost = {(one.point, one.image, one.repeat) for one in absent}
    missing = sum(
        (*key, repeat) not in sent and (*key, repeat) not in lost
        for key in planned
        if (*key, None) not in lost
        for repeat in repeats
    )
    way = "`diffjscc evaluate` with the same settings and folder makes them again"
    if missing:
        raise ResultsError(
            f"{layout.folder} lacks {missing} of the {len(planned) * len(repeats)} transmissions "
            f"that its {layout.setup.name} plans; {layout.records.name} or {layout.absent.name} "
            f"was cut: {way}"
        )
    partial = {one.point for one in absent}
    nets = {one.features for one in distances}
    measured = {(one.point, one.features) for one in distances}
    if nets and not {(point, net) for point in points - partial for net in nets} <= measured:
        raise ResultsError(
            f"{layout.distances} lacks operating points that {layout.setup.name} plans; {way}"
        )


def check_planned(
    layout: Layout, setup: Setup, records: Sequence[Record], absent: Sequence[Absent]
) -> None:
    """Raise ResultsError if there is a line of something that the set-up does not plan."""
    plan = _planned(setup)
    if plan is None:
        return
    points, repeats = plan
    names = {image.name for image in setup.images}
    lines: tuple[Record | Absent, ...] = (*records, *absent)
    for one in lines:
        if one.point not in points or one.image not in names or (one.repeat or 0) >= repeats:
            raise ResultsError(
                f"{layout.folder} holds {one.image} of {one.point}, which its "
                f"{layout.setup.name} does not plan; its files are not of the same "
                "run: run the sweep again into another folder"
            )
    keys = [(one.point, one.image, one.repeat) for one in lines]
    twice = next((key for key, times in Counter(keys).items() if times > 1), None)
    if twice is not None:
        raise ResultsError(
            f"{layout.folder} holds several lines of {twice[1]} of {twice[0]}, repeat {twice[2]}; "
            "remove the wrong one, or all and run `diffjscc evaluate` again, which makes it anew"
        )


def _planned(setup: Setup) -> tuple[set[OperatingPoint], int] | None:
    """List operating points and count repeats; None where the settings are not all known."""
    if not {"schemes", "channels", "rates", "snrs_db", "repeats"} <= setup.sweep.keys():
        return None
    names = [image.name for image in setup.images]
    try:
        config = SweepConfig.model_validate({**setup.sweep, "images": names})
    except ValidationError:  # another version's
        return None
    axes = product(config.schemes, config.channels, config.rates, config.snrs_db)
    points = {OperatingPoint(a.name, b.label, rate, snr_db) for a, b, rate, snr_db in axes}
    return points, config.repeats

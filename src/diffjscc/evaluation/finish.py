"""The end of a sweep: what all processes left is put into the files of a finished folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from diffjscc.evaluation.claim import Earlier
from diffjscc.evaluation.journal import Journal, Key, key_of
from diffjscc.evaluation.layout import Layout
from diffjscc.evaluation.lines import read_distances, write_lines
from diffjscc.evaluation.plan import PlannedPoint
from diffjscc.evaluation.records import Absent, KeptImages, OperatingPoint, Record


def finish(
    layout: Layout,
    points: Sequence[PlannedPoint],
    names: Sequence[str],
    journal: Journal,
    earlier: Earlier,
) -> None:
    """Write all lines in the order of the plan, and remove the folder of unfinished work.

    Args:
        layout: of the results.
        points: of the plan.
        names: of the images.
        journal: with this run's records.
        earlier: lines of the runs before.
    """
    place = {point.point: point.index for point in points}
    order = {name: index for index, name in enumerate(names)}

    def by_plan(line: Record | Absent | KeptImages) -> tuple[int, int, int]:
        return place[line.point], order[line.image], line.repeat or 0

    records = {key_of(record): record for record in earlier.records} | journal.read()
    missing = {
        (one.point, one.image, one.repeat): one
        for one in (*(one for one in earlier.absent if not one.failed), *journal.read_absent())
        if one.repeat is None or Key(one.point, one.image, one.repeat) not in records
    }
    now = (_kept(layout, point.point, name) for point in points for name in names)
    kept = {
        (one.point, one.image): one
        for one in (*now, *earlier.kept)
        if Key(one.point, one.image, 0) in records and (layout.folder / one.final).exists()
    }
    files = (layout.point_distances(point.point) for point in points)
    distances = {
        (one.point, one.features): one
        for one in (*earlier.distances, *(one for file in files for one in read_distances(file)))
        if one.point in place
    }
    absent = sorted(missing.values(), key=by_plan)
    images = sorted(kept.values(), key=by_plan)
    sent = sorted(records.values(), key=by_plan)
    write_lines(layout.absent, absent)
    write_lines(layout.kept, images)
    write_lines(layout.distances, sorted(distances.values(), key=lambda one: place[one.point]))
    write_lines(layout.records, sent)
    shutil.rmtree(layout.unfinished)


def _kept(layout: Layout, point: OperatingPoint, image: str) -> KeptImages:
    """The images that were kept of a transmission."""

    def if_there(kind: str) -> str | None:
        name = layout.kept_image(image, point, kind)
        return name if (layout.folder / name).exists() else None

    return KeptImages(
        *point,
        image=image,
        repeat=0,
        original=layout.original(image),
        final=layout.kept_image(image, point),
        initial=if_there("initial"),
        uncertainty=if_there("uncertainty"),
    )

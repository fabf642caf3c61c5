"""The end of a sweep: what all processes left is put into the files of a finished folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.journal import Journal
from diffjscc.evaluation.layout import Layout
from diffjscc.evaluation.lines import read_distances, write_lines
from diffjscc.evaluation.plan import PlannedPoint
from diffjscc.evaluation.records import KeptImages


def finish(
    layout: Layout,
    config: SweepConfig,
    points: Sequence[PlannedPoint],
    names: Sequence[str],
    journal: Journal,
) -> None:
    """Write all lines in the order of the plan, and remove the folder of unfinished work.

    Args:
        layout: of the results.
        config: of the sweep.
        points: of the plan.
        names: of the images.
        journal: with all records.
    """
    if not layout.records.exists():
        records, missing = journal.read(), journal.read_absent()
        place = {point.point: point.index for point in points}
        order = {name: index for index, name in enumerate(names)}
        kept = [
            _kept(layout, point, name)
            for point in points
            for name in names[: config.shown]
            if (point.point, name) not in missing
        ]
        files = [layout.point_distances(point.index) for point in points]
        absent = sorted(missing.values(), key=lambda one: (place[one.point], order[one.image]))
        sent = sorted(
            records.values(), key=lambda one: (place[one.point], order[one.image], one.repeat)
        )
        write_lines(layout.absent, absent)
        write_lines(layout.kept, kept)
        write_lines(layout.distances, [one for file in files for one in read_distances(file)])
        write_lines(layout.records, sent)
    shutil.rmtree(layout.unfinished)


def _kept(layout: Layout, point: PlannedPoint, image: str) -> KeptImages:
    """The images that were kept of a transmission."""

    def if_there(kind: str) -> str | None:
        name = layout.kept_image(image, point.index, kind)
        return name if (layout.folder / name).exists() else None

    return KeptImages(
        *point.point,
        image=image,
        repeat=0,
        original=layout.original(image),
        final=layout.kept_image(image, point.index),
        initial=if_there("initial"),
        uncertainty=if_there("uncertainty"),
    )

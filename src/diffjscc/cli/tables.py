"""Metrics in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from diffjscc.evaluation.records import Record
from diffjscc.metrics.catalogue import SECONDS, MetricInfo
from diffjscc.metrics.evaluator import Metrics


def metrics_table(
    records: Sequence[Record], metrics: Sequence[MetricInfo], compared: bool = False
) -> Table:
    """Lay out a line per transmission, in 80 columns unless numbers are long.

    With a refiner, metrics of the initial image stand above those of the final one. Where schemes
    are compared their names stand in the place of the rate, which K gives as well.

    Args:
        records: a line each.
        metrics: a column each.
        compared: whether schemes are compared.
    """
    refined = any(record.initial_metrics is not None for record in records)
    caption = "initial image, → final image" if refined else None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="right")
    table.add_column("image", overflow="fold")
    if compared:
        table.add_column("scheme", overflow="fold", min_width=12)
    rate = [] if compared else ["cpp"]
    headings = [info.heading.replace(" / ", "/") for info in metrics]
    for name in ("K", *rate, "SNR/dB", *headings, SECONDS.unit):
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        values = _numbers(record.metrics, metrics)
        if record.initial_metrics is not None:
            initial = _numbers(record.initial_metrics, metrics)
            values = [f"{first}\n→ {last}" for first, last in zip(initial, values, strict=True)]
        outage = "\noutage" if record.outage else ""
        scheme = [f"{escape(record.scheme)}{outage}"] if compared else []
        table.add_row(
            escape(Path(record.image).name),
            *scheme,
            f"{record.channel_uses:,}",
            *([] if compared else [f"{record.rate:.6f}"]),
            f"{record.snr_db:.2f}",
            *values,
            f"{record.seconds:.{SECONDS.digits}f}",
        )
    return table


def _numbers(metrics: Metrics, infos: Sequence[MetricInfo]) -> list[str]:
    values = [(info, metrics.get(info.name)) for info in infos]
    return ["–" if value is None else f"{value:.{info.digits}f}" for info, value in values]

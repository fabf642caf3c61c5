"""Figures in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from diffjscc.evaluation.records import Record
from diffjscc.metrics.evaluator import Metrics


def metrics_table(rows: Sequence[Record], compared: bool = False) -> Table:
    """A row a transmission, in 80 columns unless numbers are long.

    With a refiner, figures of the initial image stand above those of the final one. Where
    schemes are compared their names stand in the place of the rate, which K tells as well.
    """
    refined = any(row.initial is not None for row in rows)
    caption = "initial image, → final image" if refined else None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="right")
    table.add_column("image", overflow="fold")
    if compared:
        table.add_column("scheme", overflow="fold", min_width=12)
    rate = [] if compared else ["cpp"]
    for name in ("K", *rate, "SNR/dB", "PSNR/dB", "MS-SSIM", "LPIPS", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        figures = _numbers(row.final)
        if row.initial is not None:
            pairs = zip(_numbers(row.initial), figures, strict=True)
            figures = [f"{initial}\n→ {final}" for initial, final in pairs]
        outage = "\noutage" if row.outage else ""
        scheme = [f"{escape(row.scheme)}{outage}"] if compared else []
        table.add_row(
            escape(Path(row.image).name),
            *scheme,
            f"{row.channel_uses:,}",
            *([] if compared else [f"{row.rate:.6f}"]),
            f"{row.snr_db:.2f}",
            *figures,
            f"{row.seconds:.2f}",
        )
    return table


def _numbers(figures: Metrics) -> list[str]:
    values = ((figures.psnr, 2), (figures.ms_ssim, 4), (figures.lpips, 4))
    return ["–" if value is None else f"{value:.{digits}f}" for value, digits in values]

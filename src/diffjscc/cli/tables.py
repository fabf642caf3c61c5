"""Tables in the terminal, in which no column and no name is cut off."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from diffjscc.evaluation.records import Record
from diffjscc.evaluation.statistics import Summary, bias_note
from diffjscc.metrics.catalogue import SECONDS, MetricInfo
from diffjscc.paths import printable
from diffjscc.report.means import columns_of, counted, padding_note

NARROWEST = 12  # columns of the terminal that a name gets at least
BETWEEN = 2  # columns of the terminal that each column of a table takes beside its text


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: its heading.
        cells: one a row, of one or several lines; in rich's markup.
        number: whether it is flush right.
    """

    heading: str
    cells: Sequence[str]
    number: bool = False

    @property
    def width(self) -> int:
        """Longest line in columns of the terminal."""
        texts = [self.heading, *(Text.from_markup(cell).plain for cell in self.cells)]
        return max(cell_len(line) for text in texts for line in text.split("\n"))


def print_table(
    console: Console, names: Sequence[Column], values: Sequence[Column], caption: str | None = None
) -> None:
    """Print columns in one table, or below each other in as many as have room for all of them.

    Args:
        console: the terminal or file.
        names: columns that every table begins with; long cells are wrapped.
        values: columns that are not wrapped.
        caption: below the last table.
    """
    rest = list(values)
    while rest:
        taken = len(rest)
        while taken > 1 and _least(names, rest[:taken]) > console.width:
            taken -= 1
        part, rest = rest[:taken], rest[taken:]
        console.print(_table(names, part, console.width, None if rest else caption))


def _least(names: Sequence[Column], values: Sequence[Column]) -> int:
    """Least width of a table of these columns."""
    widths = [min(name.width, NARROWEST) for name in names] + [value.width for value in values]
    return sum(widths) + BETWEEN * len(widths)


def _table(
    names: Sequence[Column], values: Sequence[Column], width: int, caption: str | None
) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=caption,
        caption_justify="right",
    )
    room = width - _least([], values) - BETWEEN * len(names)
    widths = [name.width for name in names]
    while sum(widths) > room and max(widths, default=0) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    for name, wide in zip(names, widths, strict=True):
        justify: Literal["left", "right"] = "right" if name.number else "left"
        table.add_column(name.heading, overflow="fold", width=wide, justify=justify)
    for value in values:
        table.add_column(value.heading, justify="right", no_wrap=True, width=value.width)
    for row in zip(*(column.cells for column in (*names, *values)), strict=True):
        table.add_row(*row)
    return table


def print_metrics(
    console: Console,
    records: Sequence[Record],
    metrics: Sequence[MetricInfo],
    compared: bool = False,
) -> None:
    """Print a row per transmission.

    With a refiner, metrics of the initial image stand above those of the final one. The rate stands
    there unless schemes are compared at a single one, which K gives as well.

    Args:
        console: the terminal or file.
        records: a row each.
        metrics: a column each.
        compared: whether schemes are compared.
    """
    channels = len({record.channel for record in records}) > 1
    rates = not compared or len({record.nominal_rate for record in records}) > 1
    refined = any(record.initial_metrics is not None for record in records)
    lost = ["\noutage" if record.outage else "" for record in records]
    files = [escape(printable(Path(record.image).name)) for record in records]
    names = [Column("image", files)]
    if compared:
        names.append(Column("scheme", [escape(record.scheme) for record in records]))
    names[-1] = Column(names[-1].heading, list(map(operator.add, names[-1].cells, lost)))
    if channels:
        names.append(Column("channel", [escape(record.channel) for record in records]))
    # Rate and SNR belong to the name of a row, so that every table has them.
    if rates:
        names.append(Column("cpp", [f"{record.rate:.6f}" for record in records], number=True))
    names.append(Column("SNR/dB", [f"{record.snr_db:.2f}" for record in records], number=True))
    values = [Column("K", [f"{record.channel_uses:,}" for record in records])]
    for info in metrics:
        heading = info.heading.replace(" / ", "/")
        values.append(Column(heading, [_value(record, info) for record in records]))
    seconds = [f"{record.seconds:.{SECONDS.digits}f}" for record in records]
    values.append(Column(SECONDS.unit, seconds))
    remarks = ["initial image, → final image"] if refined else []
    note = padding_note(records)
    remarks += [note] if note else []
    caption = "; ".join(remarks) or None
    print_table(console, names, values, caption)


def _value(record: Record, info: MetricInfo) -> str:
    final = info.number(record.metrics.get(info.name))
    if record.initial_metrics is None:
        return final
    return f"{info.number(record.initial_metrics.get(info.name))}\n→ {final}"


def print_means(
    console: Console, summaries: Sequence[Summary], records: Sequence[Record] = ()
) -> None:
    """Print a row of means per operating point: scheme, channel, rate and SNR.

    Args:
        console: the terminal or file.
        summaries: a row each.
        records: that they summarise, for a note where K differs at one rate.
    """
    names = [Column("scheme", [escape(one.scheme) for one in summaries])]
    if len({one.channel for one in summaries}) > 1:
        names.append(Column("channel", [escape(one.channel) for one in summaries]))
    names.append(Column("rate", [one.nominal_rate for one in summaries], number=True))
    snrs = [f"{one.nominal_snr_db:g}" for one in summaries]
    names.append(Column("SNR/dB", snrs, number=True))
    values = [
        Column(
            means.label.replace(" / ", "/").replace(", ", ",\n").replace(" (", "\n("),
            [means.text(one, between="\n± ") or "–" for one in summaries],
        )
        for means in columns_of(summaries)
    ]
    sent = sorted({counted(one) for one in summaries})
    caption = "means; ± half of the 95 % interval over images, of a kernel distance over subsets"
    caption += "; images: " + ", ".join(f"{images} ({times} sent)" for images, times in sent)
    note = bias_note(summaries)
    caption += "".join(f"; {note}" for note in (note, padding_note(records)) if note)
    absent = [one for one in summaries if one.absent]
    if absent:
        values.append(Column("not\nsent", [str(one.absent) for one in summaries]))
    print_table(console, names, values, caption)

"""Means of results as columns: for the page, the terminal, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from diffjscc.evaluation.records import Record
from diffjscc.evaluation.statistics import Quantity, Summary
from diffjscc.metrics.catalogue import OUTAGE, SECONDS, frechet_256_info, frechet_info, kernel_info

# Below this number of patches the unbiased estimate of the kernel distance is mostly noise, and
# often far below 0.
FEWEST_PATCHES = 30


@dataclass(frozen=True)
class Column:
    """A column of means.

    Attributes:
        key: its name in files, such as "psnr", "psnr_initial" or "frechet_squeezenet".
        label: with its unit, if it has one.
        higher_is_better: otherwise lower is.
        digits: after the decimal point.
        read: mean and the number after ±, or None where a point has no such value.
        initial: of the initial images.
    """

    key: str
    label: str
    higher_is_better: bool
    digits: int
    read: Callable[[Summary], tuple[float, float | None] | None]
    initial: bool = False

    def text(self, summary: Summary, between: str = " ± ") -> str:
        """Mean and the number after ±, rounded; empty where a point has no such value."""
        found = self.read(summary)
        if found is None:
            return ""
        mean, spread = found
        after = "" if spread is None else f"{between}{spread:.{self.digits}f}"
        return f"{mean:.{self.digits}f}{after}"


def columns_of(summaries: Sequence[Summary]) -> list[Column]:
    """Columns that any point has a value for."""
    columns = []
    metrics = dict.fromkeys(info for summary in summaries for info in summary.metrics)
    for info in (*metrics, SECONDS):
        columns.append(_column(Quantity(info), info.heading))
        columns.append(_column(Quantity(info, initial=True), f"{info.heading}, initial"))
    lost = [one.estimates[OUTAGE.name] for one in summaries if OUTAGE.name in one.estimates]
    if any(rate.mean for rate in lost):
        columns.append(_column(Quantity(OUTAGE), OUTAGE.heading))
    for features in dict.fromkeys(name for summary in summaries for name in summary.distances):
        for info, value in (
            (frechet_info(features), partial(_frechet, features)),
            (frechet_256_info(features), partial(_frechet_256, features)),
            (kernel_info(features), partial(kernel_distance, features)),
        ):
            digits = _digits(found[0] for found in map(value, summaries) if found is not None)
            key = f"{info.name}_{features}"
            columns.append(Column(key, info.heading, info.higher_is_better, digits, value))
    return [column for column in columns if any(map(column.read, summaries))]


def kernel_distance(features: str, summary: Summary) -> tuple[float, float] | None:
    """Kernel distance and its deviation; None without one, or of fewer than `FEWEST_PATCHES`."""
    found = summary.distances.get(features)
    if found is None or found.patches < FEWEST_PATCHES:
        return None
    return found.kernel, found.kernel_deviation


def _column(quantity: Quantity, label: str) -> Column:
    info, read = quantity.info, partial(_estimate, quantity.key)
    return Column(quantity.key, label, info.higher_is_better, info.digits, read, quantity.initial)


def _digits(values: Iterable[float]) -> int:
    """Digits after the decimal point that give the largest value four significant ones."""
    largest = max(map(abs, values), default=0.0)
    return 4 if largest == 0 else max(0, 3 - math.floor(math.log10(largest)))


def _estimate(name: str, summary: Summary) -> tuple[float, float | None] | None:
    found = summary.estimates.get(name)
    return None if found is None else (found.mean, found.half_width)


def _frechet(features: str, summary: Summary) -> tuple[float, None] | None:
    found = summary.distances.get(features)
    return None if found is None else (found.frechet, None)


def _frechet_256(features: str, summary: Summary) -> tuple[float, None] | None:
    found = summary.distances.get(features)
    return None if found is None or found.frechet_256 is None else (found.frechet_256, None)


def counted(summary: Summary) -> tuple[int, int]:
    """Images and transmissions behind a point's means."""
    found = summary.estimates.get(SECONDS.name)
    return (0, 0) if found is None else (found.images, found.transmissions)


def padding_note(records: Iterable[Record]) -> str | None:
    """Describe where schemes spend other K on one image at one nominal rate, since some pad it.

    A digital link spends ⌈R·H·W⌉ channel uses, a neural codec those of the padded image, up to a
    few per cent more. True rates count all of them.
    """
    spent: dict[tuple[str, str, str], dict[str, Record]] = {}
    for record in records:
        place = (record.image, record.image_hash, record.nominal_rate)
        spent.setdefault(place, {}).setdefault(record.scheme, record)
    for (_, _, rate), by_scheme in spent.items():
        for padded in by_scheme.values():
            exact = padded.channel_uses - padded.uses_by_kind.get("padding", 0)
            for other in by_scheme.values():
                if other.channel_uses == exact < padded.channel_uses:
                    return (
                        f"at the rate {rate} {padded.scheme} spends {padded.channel_uses:,} "
                        f"channel uses on {padded.width}x{padded.height} pixels and "
                        f"{other.scheme} {exact:,}, since the former pads the sides to "
                        "multiples of its stride; true rates count that"
                    )
    return None


def as_csv(summaries: Sequence[Summary]) -> str:
    """A row per operating point, all digits: means, and half of the 95 % interval over images.

    Of a kernel distance it is the deviation over subsets of patches.
    """
    columns = columns_of(summaries)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["scheme", "channel", "rate", "snr_db", "true_rate", "true_snr_db"]
    head += ["images", "transmissions", "images_not_sent"]
    writer.writerow([*head, *(f"{c.key}{end}" for c in columns for end in ("", "_half_width"))])
    for one in summaries:
        row: list[object] = [one.scheme, one.channel, one.nominal_rate, one.nominal_snr_db]
        row += [one.rate, one.snr_db, *counted(one), one.absent]
        for column in columns:
            row += column.read(one) or (None, None)
        writer.writerow(row)
    return text.getvalue()


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "α": r"$\alpha$",
    "−": "$-$",
    "±": r"$\pm$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped, on one line."""
    plain = re.sub(r"\s+", " ", text)
    return "".join(_LATEX.get(letter, letter) for letter in plain)


def as_latex(summaries: Sequence[Summary]) -> str:
    """A tabular in the style of the package booktabs: a row per operating point."""
    columns = columns_of(summaries)
    channels = len({one.channel for one in summaries}) > 1
    head = ["scheme", *(["channel"] if channels else []), "$R$", "SNR / dB"]
    head += [f"{latex_text(c.label)} {_arrow(c)}" for c in columns]
    lines = [
        "% needs \\usepackage{booktabs}; ± is half of the 95 % confidence interval over images",
        rf"\begin{{tabular}}{{l{'l' if channels else ''}rr{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
    ]
    for one in summaries:
        row = [latex_text(one.scheme), *([latex_text(one.channel)] if channels else [])]
        row += [one.nominal_rate, f"${one.nominal_snr_db:g}$"]
        for column in columns:
            text = column.text(one, between=r" \pm ")
            row.append(f"${text}$" if text else "--")
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _arrow(column: Column) -> str:
    return r"$\uparrow$" if column.higher_is_better else r"$\downarrow$"

"""Results of the page as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffjscc.data.images import to_levels
from diffjscc.evaluation.records import Record
from diffjscc.metrics.catalogue import MetricInfo
from diffjscc.web.settings import airtime_ms

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Shown:
    """An image on the page and what is known of it.

    Attributes:
        name: of the scheme, for readers.
        image: uint8 [H, W, 3]; None where there is none, or none yet.
        record: of its transmission; None for the original, and where nothing was sent.
        words: the reason where there is no image.
    """

    name: str
    image: Pixels | None = None
    record: Record | None = None
    words: str = ""

    @property
    def caption(self) -> str:
        """The name and, if there is one, the outage or the reason for having no image."""
        if self.record is not None:
            return f"{self.name}: outage" if self.record.outage else self.name
        return f"{self.name}: {self.words.partition(':')[0]}" if self.words else self.name


def pixels(image: Tensor) -> Pixels:
    """Convert an image [3, H, W], levels or floats in [0, 1], to uint8 [H, W, 3]."""
    levels = image if image.dtype == torch.uint8 else to_levels(image)
    found: Pixels = levels.permute(1, 2, 0).cpu().numpy()
    return found


def metrics_table(shown: Sequence[Shown], infos: Sequence[MetricInfo], bandwidth_khz: float) -> str:
    """Write a line per scheme as HTML: metrics, K, airtime, SNR and seconds."""
    heads = [info.heading for info in infos]
    head = "".join(
        f"<th>{escape(name)}</th>"
        for name in ("", *heads, "symbols K", "airtime / ms", "SNR / dB", "computed in / s")
    )
    lines = "".join(_line(item, infos, bandwidth_khz) for item in shown)
    return (
        f'<table class="metrics"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
        f'<p class="note">Airtime in a channel of {bandwidth_khz:,.0f} kHz, one symbol per second '
        "and hertz, without preamble and pilots.</p>"
    )


def _line(shown: Shown, infos: Sequence[MetricInfo], bandwidth_khz: float) -> str:
    record = shown.record
    if record is None:
        reason = escape(shown.words or "…")
        return f'<tr><th>{escape(shown.name)}</th><td colspan="{len(infos) + 4}">{reason}</td></tr>'
    cells = [
        *(info.number(record.metrics.get(info.name)) for info in infos),
        f"{record.channel_uses:,}",
        f"{airtime_ms(record.channel_uses, bandwidth_khz):.2f}",
        f"{record.snr_db:.1f}",
        f"{record.seconds:.1f}",
    ]
    joined = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><th>{escape(shown.caption)}</th>{joined}</tr>"

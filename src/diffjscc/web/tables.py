"""Results of the page as a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from diffjscc.metrics.catalogue import MetricInfo
from diffjscc.web.settings import airtime_ms
from diffjscc.web.shown import Shown


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

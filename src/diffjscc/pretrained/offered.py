"""Rates of weights from the description of their codec alone; torch is not imported."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

BUNDLED = Path(__file__).parent / "weights"
COMPACT_STRIDE = 16  # pixels per latent position and side


def offered_rates(source: str) -> tuple[Fraction, ...] | None:
    """Rates of weights in cpp, ascending; None where only loading them can say.

    Args:
        source: bundled name or folder; a hub id is not looked up.
    """
    places = [folder / "codec" / "config.json" for folder in (BUNDLED / source, Path(source))]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["class"] == "CompactJSCC":
            channels, stride = config["rate_channels"], COMPACT_STRIDE
        elif config["class"] == "DeepJSCC":
            channels, stride = [config["channels"]], 2 ** config["downsamplings"]
        else:
            return None
        return tuple(Fraction(number, 2 * stride**2) for number in channels)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return None  # damaged: loading it says how

"""Rates of weights from the description of their codec alone, before the weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from diffjscc.pretrained.hub_ids import is_hub_id

BUNDLED = Path(__file__).parent / "weights"
COMPACT_STRIDE = 16  # pixels per latent position and side
BASIC_STRIDE = 4

# Torch is imported for a hub id or a released checkpoint alone: others' rates are said at once.


def offered_rates(source: str) -> tuple[Fraction, ...] | None:
    """Rates of weights in cpp, ascending; None where only loading them can say.

    Args:
        source: bundled name, folder or hub id, of which one small file is fetched; a released
            checkpoint's folder or hub id, too.
    """
    try:
        description = _description(source)
        return None if description is None else _rates(description)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return None  # damaged, or out of reach: loading it says how


def _rates(codec: Mapping[str, Any]) -> tuple[Fraction, ...] | None:
    """Rates of a codec by its description, see `build.build_codec`."""
    if codec["class"] == "FeedbackJSCC":  # the further rounds take as much as the first
        first = _rates(codec["first"])
        return None if first is None else tuple(2 * rate for rate in first)
    if codec["class"] == "CompactJSCC":
        channels, stride = codec["rate_channels"], COMPACT_STRIDE
    elif codec["class"] == "BasicJSCC":
        channels, stride = [codec["channels"]], BASIC_STRIDE
    elif codec["class"] == "DeepJSCC":
        channels, stride = [codec["channels"]], 2 ** codec["downsamplings"]
    elif codec["class"] == "SwinJSCC":
        channels, stride = [codec["channels"]], 2 ** len(codec["encoder_widths"])
    elif codec["class"] == "WITT":
        channels, stride = (
            codec["rate_channels"] or [codec["channels"]],
            2 ** len(codec["encoder_widths"]),
        )
    else:
        return None
    return tuple(Fraction(number, 2 * stride**2) for number in channels)


def _description(source: str) -> Mapping[str, Any] | None:
    """Description of the codec of weights, or None if they are none, or one file of others."""
    if Path(source).is_file():
        return None
    for folder in (BUNDLED / source, Path(source)):
        if (folder / "codec" / "config.json").is_file():
            return _read(folder / "codec" / "config.json")
        if (folder / "config.yaml").is_file():
            return _released(folder / "config.yaml")
        if folder.is_dir():
            return None
    return _on_the_hub(source) if is_hub_id(source) else None


def _read(path: Path) -> Mapping[str, Any]:
    description: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return description


def _released(path: Path) -> Mapping[str, Any]:
    """Description of a released checkpoint's codec."""
    from diffjscc.pretrained.convert.checkpoint import read_config  # noqa: PLC0415 - torch
    from diffjscc.pretrained.convert.config import check_config  # noqa: PLC0415

    return check_config(read_config(path), path).codec.description


def _on_the_hub(source: str) -> Mapping[str, Any] | None:
    """Description of the codec of a hub id; nothing but that is fetched."""
    # Torch and the hub's library take a while.
    from diffjscc.pretrained.fetching import NoSuchFileError, fetch_file  # noqa: PLC0415
    from diffjscc.pretrained.sources import CONFIG_NAME, split_revision  # noqa: PLC0415

    name, revision = split_revision(source)
    try:
        return _read(fetch_file(name, "codec/config.json", revision))
    except NoSuchFileError:
        return _released(fetch_file(name, CONFIG_NAME, revision))

"""Names that commands take, each with what it stands for: `diffjscc list`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import get_args

from diffjscc.choices import ChannelName, Listed
from diffjscc.pretrained.hub_ids import RELEASED_IDS
from diffjscc.pretrained.offered import BUNDLED, offered_rates
from diffjscc.schemes.channel import CHANNELS
from diffjscc.schemes.kinds import KINDS
from diffjscc.training.config import SHIPPED

OWN = "my_module:{}"  # import string in place of the name "custom"
EXAMPLE = (512, 768)  # height and width in pixels of the image that rates are shown for


@dataclass(frozen=True)
class Entry:
    """A name that a command takes.

    Attributes:
        name: as it is given.
        facts: further columns, by their headings.
        description: one sentence.
    """

    name: str
    facts: Mapping[str, str | float]
    description: str

    def as_dict(self) -> dict[str, str | float]:
        """Name, facts and description in one object, as JSON has them."""
        return {"name": self.name, **self.facts, "description": self.description}


def entries(kind: Listed, weights: str = "compact") -> list[Entry]:
    """List the names of a kind.

    Args:
        kind: of names.
        weights: bundled name, folder or hub id, whose rates are listed.

    Raises:
        ValueError: nothing says which rates the weights offer.
    """
    if kind == "rates":
        return _rates(weights)
    lists: dict[str, Callable[[], list[Entry]]] = {
        "weights": _weights,
        "schemes": _schemes,
        "channels": _channels,
        "configs": _configs,
    }
    return lists[kind]()


def _weights() -> list[Entry]:
    bundled = [
        Entry(path.name, {"rates": _words(path.name), "MB": _megabytes(path)}, "bundled")
        for path in sorted(BUNDLED.iterdir())
        if path.is_dir()
    ]
    rates = {name: str(Fraction(3, int(name.rsplit("-", 1)[1]))) for name in RELEASED_IDS}
    released = [Entry(name, {"rates": rates[name], "MB": 7000}, "hub") for name in RELEASED_IDS]
    return bundled + released


def _words(weights: str) -> str:
    return ", ".join(map(str, offered_rates(weights) or ()))


def _megabytes(folder: Path) -> int:
    return round(sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6)


def _rates(weights: str) -> list[Entry]:
    offered = offered_rates(weights)
    if offered is None:
        raise ValueError(
            f"weights {weights!r} say nothing of their rates, or cannot be read; give a bundled "
            "name, a folder of weights or a hub id"
        )
    height, width = EXAMPLE
    return [
        Entry(
            str(rate),
            {"cpp": float(rate), "CBR": str(rate / 3)},
            f"{int(rate * height * width):,} symbols for {width}x{height} pixels",
        )
        for rate in offered
    ]


def _schemes() -> list[Entry]:
    def needs(name: str) -> str:
        kind = KINDS[name]
        if kind.section == "inversion":
            return "a config"
        return "--adversarial" if kind.own_weights else "--weights" if kind.pooling else ""

    return [
        Entry(
            OWN.format("make") if name == "custom" else name,
            {"takes": needs(name)},
            KINDS[name].description,
        )
        for name in KINDS
    ]


def _channels() -> list[Entry]:
    return [
        Entry(OWN.format("MyChannel") if name == "custom" else name, {}, CHANNELS[name])
        for name in get_args(ChannelName)
    ]


def _configs() -> list[Entry]:
    return [
        Entry(Path(file.name).stem, {"train": _stage(file.name)}, _first_sentence(file.read_text()))
        for file in sorted(SHIPPED.iterdir(), key=lambda file: file.name)
    ]


def _stage(name: str) -> str:
    return Path(name).stem.rsplit("-", 1)[1]


def _first_sentence(text: str) -> str:
    """First sentence of the comment at the head of a file."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).split(". ")[0].removesuffix(".")

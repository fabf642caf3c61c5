"""`DiffJSCC.from_pretrained`: the front door to every set of weights."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.models.pretrained import (
    find_weights,
    load_codec,
    read_json,
    save_codec,
    weights_hash,
    write_json,
)
from diffjscc.scheme import Refiner, Scheme


def parse_rate(rate: str | float | Fraction) -> Fraction:
    """A rate in channel uses per pixel from "1/128", 0.0078125 or a Fraction.

    Raises:
        ValueError: not a positive number.
    """
    try:
        value = Fraction(rate).limit_denominator(1 << 20)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"rate {rate!r} is not a number; write it as 1/128 or 0.0078125") from None
    if value <= 0:
        raise ValueError(f"rate {rate} must be above 0 channel uses per pixel")
    return value


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a CUDA GPU where there is one, else the CPU.

    Raises:
        ValueError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {reason}; try cpu or auto") from error
    return device


@dataclass(frozen=True)
class DiffJSCC(Scheme):
    """A scheme that comes from saved weights.

    Attributes:
        codec: the neural codec.
        rate, refiner: see `Scheme`.
        weights: where the weights came from, and the start of their hash: "compact@1a2b3c".
        card: what made the weights, on what data, and the figures measured with them.
    """

    codec: JointCodec
    weights: str = ""
    card: dict[str, Any] | None = None

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "compact",
        rate: str | float | Fraction | None = None,
        *,
        refiner: Refiner | None = None,
        parts: Parts = "both",
        device: str = "auto",
    ) -> DiffJSCC:
        """Load weights.

        Args:
            source: name of bundled weights, a folder written by `save_pretrained`, or a hub id.
            rate: nominal rate in cpp, such as "1/128"; the weights' lowest where it is None.
            refiner: what paints the final picture; None gives the codec alone.
            parts: "transmitter" or "receiver" loads that end only.
            device: "auto", "cpu", "cuda", "cuda:1", …

        Raises:
            ValueError: unknown or damaged weights, a rate that they do not offer, no such device.
        """
        folder = find_weights(source)
        codec = load_codec(folder, parts, choose_device(device))
        chosen = codec.rates[0] if rate is None else parse_rate(rate)
        if chosen not in codec.rates:
            offered = ", ".join(map(str, codec.rates))
            raise ValueError(f'rate {chosen} is not one of {offered} (weights "{source}")')
        card = folder / "card.json"
        return cls(
            codec=codec,
            rate=chosen,
            refiner=refiner,
            weights=f"{Path(source).name}@{weights_hash(folder)}",
            card=read_json(card) if card.exists() else None,
        )

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write the weights to `folder`, tensors stored as `dtype`, so that they load again."""
        save_codec(self.codec, Path(folder), dtype)
        if self.card is not None:
            write_json(Path(folder) / "card.json", self.card)

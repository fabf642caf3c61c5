"""Rates in channel uses per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Rate = str | float | Fraction

LOWEST, HIGHEST = Fraction(1, 1 << 20), Fraction(1 << 20)
LONGEST = 40  # characters


def parse_rate(rate: Rate) -> Fraction:
    """Parse a rate in channel uses per pixel: "1/128", 0.0078125 or a Fraction.

    Raises:
        ValueError: not a number, or one outside `LOWEST` to `HIGHEST`.
    """
    shown = str(rate)[:LONGEST]
    try:
        if isinstance(rate, bool) or len(str(rate)) > LONGEST:
            raise ValueError
        # A float is made first: the digits of 1e999999999 would fill the memory.
        number = Fraction(rate) if "/" in shown else float(rate)
        inside = LOWEST <= number <= HIGHEST
        value = Fraction(rate).limit_denominator(LOWEST.denominator) if inside else LOWEST
    except (ValueError, OverflowError, ZeroDivisionError, TypeError):
        raise ValueError(
            f"rate {shown!r} is not a number; write it as 1/128 or 0.0078125"
        ) from None
    if number <= 0:
        raise ValueError(f"rate {shown} must be above 0 channel uses per pixel")
    if not inside:
        raise ValueError(
            f"rate {shown} is beyond 2^-20 to 2^20 channel uses per pixel; write it "
            "as 1/128 or 0.0078125"
        )
    return value


def check_offered(rate: Fraction, offered: Sequence[Fraction], where: str = "") -> None:
    """Raise ValueError unless a rate is among those that a codec has.

    Args:
        rate: that is asked for.
        offered: by the codec.
        where: they come from, for the error, such as '(weights "compact")'.
    """
    if rate not in offered:
        source = f" {where}" if where else ""
        listed = ", ".join(map(str, offered))
        raise ValueError(f"rate {rate} is not one of {listed}{source}")

"""Rates in channel uses per pixel."""

from __future__ import annotations

from fractions import Fraction

Rate = str | float | Fraction


def parse_rate(rate: Rate) -> Fraction:
    """Parse a rate in channel uses per pixel: "1/128", 0.0078125 or a Fraction.

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

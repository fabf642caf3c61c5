"""Checks of the numbers that an architecture is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

WIDTH = (1, 4096)
BLOCKS = (0, 256)


def check_numbers(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:  # noqa: ANN401
    """Raise ValueError unless settings lie in their ranges, both ends included.

    Args:
        config: has the settings as attributes: numbers, or tuples of at least one number.
        ranges: lowest and highest value of each setting by name.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers:
            raise ValueError(f"{name} is empty; give at least one number")
        if not all(low <= number <= high for number in numbers):  # false for NaN too
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(f"{name} is {shown}; give numbers from {low:g} to {high:g}")


def check_channels(channels: int) -> None:
    """Raise ValueError unless latent channels, of which two make a symbol, are even and some."""
    if channels < 2 or channels % 2:
        raise ValueError(
            f"channels is {channels}; two make a symbol: give an even number from 2 on"
        )


def check_snr_range(snr_range_db: tuple[float, float]) -> None:
    """Raise ValueError unless an SNR range in dB has a low end below a high one."""
    low, high = snr_range_db
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"snr_range_db is {[low, high]}; give [low, high] in dB, low below high")


def check_snr_span(snr_range_db: tuple[float, float]) -> None:
    """Raise ValueError unless an SNR range in dB is [low, high], or the same SNR twice."""
    low, high = snr_range_db
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"snr_range_db is {[low, high]}; give [low, high] in dB, low at most high")


def check_odd(name: str, kernel: int) -> None:
    """Raise ValueError unless the side of a kernel is odd, which keeps an image's size."""
    if kernel % 2 == 0:
        raise ValueError(f"{name} is {kernel}; give an odd number, such as {kernel + 1}")

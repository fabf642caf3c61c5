"""What an ideal channel code would carry."""

from __future__ import annotations

import math


def capacity_bits(channel_uses: int, snr_db: float) -> int:
    """The most bits that K complex channel uses of AWGN carry: floor(K · log2(1 + Es/N0)).

    Args:
        channel_uses: K, at least 0.
        snr_db: Es/N0 in dB, finite.

    Raises:
        ValueError: K is negative, or the SNR is not finite.
    """
    if channel_uses < 0:
        raise ValueError(f"channel_uses is {channel_uses}; it must be at least 0")
    if not math.isfinite(snr_db):
        raise ValueError(f"snr_db is {snr_db}; it must be finite")
    return math.floor(channel_uses * math.log2(1 + 10 ** (snr_db / 10)))

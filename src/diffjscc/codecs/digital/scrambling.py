"""Scrambler of IEEE 802.11 (x^7 + x^4 + 1), which makes any payload look random.

Without it, a run of equal bits such as zero padding would be mapped to symbols of equal energy, and
the mean power of an image would differ from that of the constellation.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_PERIOD = 127


@cache
def _sequence() -> Tensor:
    """Generate one period, from the initial state 1111111: bool [127]."""
    register, bits = [True] * 7, []
    for _ in range(_PERIOD):
        bit = register[6] ^ register[3]
        register = [bit, *register[:6]]
        bits.append(bit)
    return torch.tensor(bits)


def scramble(bits: Tensor) -> Tensor:
    """Add the scrambling sequence to bits, bool [..., N]; the operation is its own inverse."""
    sequence = _sequence().repeat(-(-bits.shape[-1] // _PERIOD))[: bits.shape[-1]]
    return bits ^ sequence.to(bits.device)

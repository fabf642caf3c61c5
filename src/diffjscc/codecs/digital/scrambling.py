"""The scrambler of IEEE 802.11 (x^7 + x^4 + 1): payloads of any kind look random on the air.

Without it a run of equal bits, such as the zeros that fill a payload up, would be symbols of equal
energy, and an image's mean power another than the constellation's.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_PERIOD = 127


@cache
def _sequence() -> Tensor:
    """One period, from the register 1111111 on: bool [127]."""
    register, bits = [True] * 7, []
    for _ in range(_PERIOD):
        bit = register[6] ^ register[3]
        register = [bit, *register[:6]]
        bits.append(bit)
    return torch.tensor(bits)


def scramble(bits: Tensor) -> Tensor:
    """Bits, bool [..., N], with the sequence added; twice gives the bits again."""
    sequence = _sequence().repeat(-(-bits.shape[-1] // _PERIOD))[: bits.shape[-1]]
    return bits ^ sequence.to(bits.device)

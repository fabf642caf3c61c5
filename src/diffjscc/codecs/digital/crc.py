"""24-bit CRC of 3GPP TS 38.212, 5.1: gCRC24A, sent inverted.

It is inverted so that the all-zero word, the decoder's output without a signal, fails the check.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

CRC_LENGTH = 24
GENERATOR = 0x1864CFB  # D^24 + D^23 + D^18 + D^17 + D^14 + D^11 + D^10 + D^7 … D^3 + D + 1

_STEP = 1000  # bits per step of the polynomial division


@cache
def _powers() -> Tensor:
    """Compute D^i modulo the generator, float32 [_STEP + 24, 24], highest power first."""
    power, rows = 1, []
    for _ in range(_STEP + CRC_LENGTH):
        rows.append([float(power >> i & 1) for i in reversed(range(CRC_LENGTH))])
        power <<= 1
        if power >> CRC_LENGTH:
            power ^= GENERATOR
    return torch.tensor(rows[::-1])


def parity_bits(bits: Tensor) -> Tensor:
    """Compute the remainder of message·D^24, not inverted: bool [B, N] to [B, 24]."""
    message = F.pad(bits.float(), (-(bits.shape[1] + CRC_LENGTH) % _STEP, CRC_LENGTH))
    remainder = message.new_zeros(len(bits), CRC_LENGTH)
    powers = _powers().to(bits.device)
    for part in message.reshape(len(bits), -1, _STEP).unbind(dim=1):
        remainder = torch.cat([remainder, part], dim=1) @ powers % 2
    return remainder.bool()


def append_crc(bits: Tensor) -> Tensor:
    """Append the CRC to messages: bool [B, N] to [B, N + 24]."""
    return torch.cat([bits, ~parity_bits(bits)], dim=1)


def crc_holds(bits: Tensor) -> Tensor:
    """Check messages with CRC, bool [B, N + 24]; returns bool [B].

    Random bits pass with probability 2^-24.
    """
    message, crc = bits[:, :-CRC_LENGTH], bits[:, -CRC_LENGTH:]
    return (~parity_bits(message) == crc).all(dim=1)

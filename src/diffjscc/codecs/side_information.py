"""Side information of an image: words of 7 bits in a strong code, sent beside its symbols.

The code is the first-order Reed-Muller code of length 64: a word is one of 128 biorthogonal
sequences of 64 signs, 32 QPSK symbols. All words are equally far from each other but for their
opposites, so a word is lost with a probability of at most 127·Q(√(32·Es/N0)): 1e-6 at 0 dB.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.codecs.hadamard import hadamard

BITS = 7  # of a word
USES = 32  # channel uses of a word


def send_words(words: Tensor) -> Tensor:
    """Modulate words, int64 [B, n] from 0 to 127, to symbols of power 1, complex64 [B, 32·n]."""
    signs = hadamard(2 * USES).to(words.device)[words % 64] * (1 - 2 * (words // 64))[..., None]
    pairs = signs.reshape(*words.shape, USES, 2) / math.sqrt(2)
    return torch.view_as_complex(pairs.contiguous()).flatten(1)


def receive_words(values: Tensor) -> Tensor:
    """Decide the likeliest words, int64 [B, n], of equalised symbols, complex64 [B, 32·n]."""
    grid = values.reshape(len(values), -1, USES)
    parts = torch.view_as_real(grid.contiguous()).flatten(2)
    likeness = parts @ hadamard(2 * USES).to(values.device)
    place = likeness.abs().argmax(-1)
    negative = likeness.gather(-1, place[..., None])[..., 0] < 0
    return place + 64 * negative


def bits_to_words(bits: Tensor) -> Tensor:
    """Pack bits, bool [B, n], first bit least significant, to words [B, ⌈n/7⌉]."""
    missing = -bits.shape[1] % BITS
    padded = F.pad(bits.long(), (0, missing)).reshape(len(bits), -1, BITS)
    words: Tensor = (padded << torch.arange(BITS, device=bits.device)).sum(-1)
    return words


def words_to_bits(words: Tensor, count: int) -> Tensor:
    """Invert `bits_to_words`: the first `count` bits, bool [B, count]."""
    bits = words[..., None] >> torch.arange(BITS, device=words.device) & 1
    return bits.flatten(1)[:, :count].bool()

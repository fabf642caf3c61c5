"""One choice of a few in a strong code, such as the rate of an image.

A simplex code: the rows of a Hadamard matrix of order M without its first column, sent as BPSK and
repeated. No other M words of that energy are further apart; the receiver takes the nearest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffjscc.codecs.hadamard import hadamard

# Distance of two words in deviations of the noise, over 2: Q(5) = 2.9e-7.
MARGIN = 5.0
# Below it more repetitions would help no codec of this package, in dB.
LOWEST_SNR_DB = -10.0


def words(choices: int) -> Tensor:
    """List the words of a code for at least so many choices, float32 [M, M - 1] of ±1.

    Raises:
        ValueError: `choices` is below 1.
    """
    if choices < 1:
        raise ValueError(f"choices is {choices}; it must be at least 1")
    order = 1 << (choices - 1).bit_length()
    return hadamard(order)[:, 1:]


def signal_length(choices: int, snr_db: float) -> int:
    """Compute the channel uses at which a wrong word is nearer once in a million times.

    n symbols put words at a squared distance of 2·n·M/(M - 1), so that the error rate is at most
    (M - 1)·Q(√(n·M/((M - 1)·N0))). One choice needs no symbols.

    Args:
        choices: that can be signalled.
        snr_db: Es/N0 in dB that both ends assume; below `LOWEST_SNR_DB` as there.
    """
    length = len(words(choices)) - 1
    if length == 0:
        return 0
    noise_power = 10 ** (-max(snr_db, LOWEST_SNR_DB) / 10)
    needed = MARGIN**2 * noise_power * length / (length + 1)
    return length * math.ceil(needed / length)


def signalled(choice: int, choices: int, length: int) -> Tensor:
    """Code a choice as symbols of unit power, complex64 [length]."""
    word = words(choices)[choice]
    repeated = word.repeat(length // max(1, len(word)))
    return torch.complex(repeated, torch.zeros_like(repeated))


def read_signal(values: Tensor, choices: int) -> Tensor:
    """Find the most likely choices.

    Args:
        values: equalised symbols, complex64 [B, length].
        choices: that can be signalled.

    Returns:
        int64 [B]; a word that stands for none is read as the last choice.
    """
    known = words(choices).to(values.device)
    period = known.shape[1]
    sums = values.real.new_zeros(len(values), period)
    for start in range(0, values.shape[1], max(1, period)):
        sums = sums + values.real[:, start : start + period]
    nearest: Tensor = (sums @ known.T).argmax(dim=1)
    return nearest.clamp(max=choices - 1)

"""Known sequences: preamble, pilots, and the order of interleaved cells.

All are fixed by formulas or by NumPy's `RandomState`, whose numbers never change.
"""

from __future__ import annotations

from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex64]

SHORT = 16  # period of the first part of the preamble, in samples
SHORT_LENGTH = 256
LONG_LENGTH = 256
PREAMBLE_LENGTH = SHORT_LENGTH + LONG_LENGTH
# Edge of the preamble's band: 52 of 64 subcarriers.
_EDGE = 26 / 64
# Seeds of the second part, which names the waveform: the smallest peaks among 3,000, 5.8 dB.
LONG_SEEDS = {"ofdm-64": 1507, "ofdm-1024": 2057, "single-carrier": 149}


@cache
def chu(length: int) -> Complex:
    """Chu's sequence exp(jπ n²/N), N even: constant modulus in time and in frequency."""
    n = np.arange(length)
    values: Complex = np.exp(1j * np.pi * (n * n % (2 * length)) / length).astype(np.complex64)
    return values


@cache
def short_part() -> Complex:
    """First part of the preamble: a sequence of 16 samples, 16 times, of mean power 1."""
    tones = _tones(SHORT)
    return np.tile(_multitone(SHORT, chu(len(tones))), SHORT_LENGTH // SHORT)


@cache
def long_part(waveform: str) -> Complex:
    """Second part of the preamble: 256 samples of mean power 1 that name the waveform."""
    random = np.random.RandomState(LONG_SEEDS[waveform])
    turns = random.randint(0, 4, len(_tones(LONG_LENGTH)))
    return _multitone(LONG_LENGTH, np.exp(0.5j * np.pi * turns).astype(np.complex64))


def preamble(waveform: str) -> Complex:
    """Both parts, 512 samples."""
    return np.concatenate([short_part(), long_part(waveform)])


def _tones(length: int) -> NDArray[np.int64]:
    """Bins within the band, without 0."""
    edge = int(length * _EDGE)
    return np.concatenate([np.arange(-edge, 0), np.arange(1, edge + 1)])


def _multitone(length: int, values: Complex) -> Complex:
    spectrum = np.zeros(length, np.complex128)
    spectrum[_tones(length)] = values
    samples = np.fft.ifft(spectrum)
    scaled: Complex = (samples / np.sqrt(np.mean(np.abs(samples) ** 2))).astype(np.complex64)
    return scaled


@cache
def _pilot_signs() -> NDArray[np.float32]:
    signs = np.random.RandomState(4).randint(0, 2, (127, 64)) * 2 - 1
    return signs.astype(np.float32)


def pilots(rows: int, per_row: int) -> Complex:
    """Known cells of data rows, ±1, complex64 [rows, per_row]; they repeat after 127 rows."""
    return _pilot_signs()[np.arange(rows) % 127, :per_row].astype(np.complex64)


def padding(length: int) -> Complex:
    """Cells that carry nothing: QPSK, so that their power is that of the others."""
    turns = np.random.RandomState(5).randint(0, 4, length)
    cells: Complex = np.exp(0.25j * np.pi * (2 * turns + 1)).astype(np.complex64)
    return cells


@cache
def interleaved(length: int) -> NDArray[np.int64]:
    """Place of each symbol among as many cells: i·a mod N, a next to N/φ and coprime to N.

    The golden section takes neighbours as far apart as can be, in time and in frequency.
    """
    step = max(1, round(length * (np.sqrt(5) - 1) / 2))
    while gcd(step, length) != 1:
        step += 1
    places: NDArray[np.int64] = np.arange(length, dtype=np.int64) * step % max(length, 1)
    return places

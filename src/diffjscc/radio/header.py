"""Header of a frame: all that a receiver needs, behind LDPC 1/2, BPSK and repetition.

Bits, most significant first, 192 in all:

    version 8 · kind 8 · weights 48 · rate numerator 16 · rate denominator 16 · height 16 · width 16
    · symbols 24 · SNR 16 · MCS 5 · fixed quality 1 · downsampled 1 · reserved 1 · frame number 16

The SNR that the encoder assumed is in steps of 0.01 dB, as a two's complement number. MCS is 0
where the SNR decides it, or its place in `mcs.ALL`, from 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffjscc.codecs.digital.ldpc import LDPC
from diffjscc.codecs.digital.modulation import Modulation
from diffjscc.codecs.digital.scrambling import scramble
from diffjscc.codecs.digital.segmentation import Segmentation
from diffjscc.radio.sequences import interleaved

Complex = NDArray[np.complex64]

VERSION = 1
REPETITIONS = 2
ITERATIONS = 30

# Field, bits, and whether it may be negative.
_FIELDS = (
    ("version", 8, False),
    ("kind", 8, False),
    ("weights", 48, False),
    ("numerator", 16, False),
    ("denominator", 16, False),
    ("height", 16, False),
    ("width", 16, False),
    ("symbols", 24, False),
    ("snr_steps", 16, True),
    ("mcs", 5, False),
    ("fixed_quality", 1, False),
    ("downsampled", 1, False),
    ("reserved", 1, False),
    ("number", 16, False),
)
_BITS = sum(bits for _, bits, _ in _FIELDS)
_STEPS_PER_DB = 100
_BPSK = Modulation("bpsk")


@dataclass(frozen=True)
class Header:
    """Description of a frame's payload.

    Attributes:
        kind: number of the scheme's kind, 0 to 255; the meaning is that of the rooms above.
        weights: start of the weights' hash, 12 hexadecimal digits; zeros where there are none.
        rate: nominal rate in channel uses per pixel, numerator and denominator below 65,536.
        height, width: of the image, in pixels, 1 to 65,535.
        symbols: K, 1 to 16,777,215.
        snr_db: Es/N0 in dB that the encoder assumed, a multiple of 0.01 in ±327.
        number: of the frame, 0 to 65,535.
        mcs: 0, or a place in the table of modulations and code rates, from 1; at most 31.
        fixed_quality: whether K follows from a fixed quality of the source codec.
        downsampled: whether a digital link may have made the image smaller.

    Raises:
        ValueError: a value beyond its range.
    """

    kind: int
    weights: str
    rate: Fraction
    height: int
    width: int
    symbols: int
    snr_db: float
    number: int = 0
    mcs: int = 0
    fixed_quality: bool = False
    downsampled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "snr_db", quantised_snr(self.snr_db))
        if min(self.height, self.width, self.symbols) < 1:
            raise ValueError(
                f"an image of {self.width}x{self.height} pixels in {self.symbols} symbols; each "
                "must be at least 1"
            )
        self._bits()  # refuses values beyond their ranges

    @classmethod
    def from_bits(cls, bits: NDArray[np.bool_]) -> Header:
        """Read 192 bits.

        Raises:
            ValueError: another version, or values that no transmitter sends.
        """
        values, place = {}, 0
        for name, length, signed in _FIELDS:
            number = int("".join("1" if bit else "0" for bit in bits[place : place + length]), 2)
            values[name] = number - (1 << length) if signed and number >> length - 1 else number
            place += length
        if values["version"] != VERSION:
            raise ValueError(
                f"the frame has version {values['version']} and this receiver reads {VERSION}; "
                "update the older one of transmitter and receiver"
            )
        if not values["numerator"] or not values["denominator"]:
            raise ValueError("the frame's rate is 0; it must be above 0 channel uses per pixel")
        return cls(
            kind=values["kind"],
            weights=f"{values['weights']:012x}",
            rate=Fraction(values["numerator"], values["denominator"]),
            height=values["height"],
            width=values["width"],
            symbols=values["symbols"],
            snr_db=values["snr_steps"] / _STEPS_PER_DB,
            number=values["number"],
            mcs=values["mcs"],
            fixed_quality=bool(values["fixed_quality"]),
            downsampled=bool(values["downsampled"]),
        )

    def _bits(self) -> str:
        """Write 192 bits as 0 and 1; raises ValueError for a value beyond its range."""
        values = {
            "version": VERSION,
            "weights": int(self.weights, 16),
            "numerator": self.rate.numerator,
            "denominator": self.rate.denominator,
            "snr_steps": round(self.snr_db * _STEPS_PER_DB),
            "reserved": 0,
        }
        text = ""
        for name, length, signed in _FIELDS:
            value = int(values[name] if name in values else getattr(self, name))
            low, high = (
                (-(1 << length - 1), (1 << length - 1) - 1) if signed else (0, 2**length - 1)
            )
            if not low <= value <= high:
                raise ValueError(f"{name} is {value:,}; a frame's header holds {low:,} to {high:,}")
            text += f"{value % (1 << length):0{length}b}"
        return text

    def modulate(self) -> Complex:
        """Code and map to BPSK symbols, complex64 [header_length()]."""
        payload = torch.tensor([[bit == "1" for bit in self._bits()]])
        coded = _code().encode(scramble(payload))[0]
        symbols = _BPSK.map(coded.repeat(REPETITIONS)).numpy()
        cells = np.empty_like(symbols)
        cells[interleaved(len(cells))] = symbols
        return cells


def quantised_snr(snr_db: float) -> float:
    """Round an SNR in dB as the header does; both ends know the result.

    Raises:
        ValueError: it is not finite.
    """
    if not math.isfinite(snr_db):
        raise ValueError(f"the assumed SNR is {snr_db} dB; it must be finite")
    return round(snr_db * _STEPS_PER_DB) / _STEPS_PER_DB


@cache
def _code() -> Segmentation:
    return Segmentation(LDPC(Fraction(1, 2)), _BITS)


def header_length() -> int:
    """Cells of a header."""
    return REPETITIONS * _code().coded_bits


def demodulate_header(values: Complex, gain: Complex, noise_power: float) -> Header | None:
    """Demap and decode a header; None if the CRC fails.

    Args:
        values: received cells, gain · sent + noise, complex64 [header_length()].
        gain: complex64, same shape.
        noise_power: N0 per cell.

    Raises:
        ValueError: the CRC holds, but the version is another, or a value is impossible.
    """
    order = interleaved(len(values))
    power = np.maximum(np.abs(gain[order]) ** 2, 1e-12)
    equalised = torch.from_numpy(values[order] * gain[order].conj() / power)
    llr: Tensor = _BPSK.demap(equalised, torch.from_numpy(noise_power / power).float())
    total = llr.reshape(REPETITIONS, -1).sum(dim=0)
    payload, intact = _code().decode(total[None], ITERATIONS)
    if not bool(intact):
        return None
    return Header.from_bits(scramble(payload)[0].numpy())

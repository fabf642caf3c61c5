"""Modulation and coding schemes (MCS), and which of them an SNR allows: measured, not assumed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files
from itertools import product

import numpy as np

from diffjscc.codecs.digital.ldpc import CODE_RATES, LDPC
from diffjscc.codecs.digital.modulation import BITS_PER_SYMBOL, Modulation

ITERATIONS = 20  # of belief propagation: what the table was measured with, and links decode with
TABLE = "mcs.json"


@dataclass(frozen=True)
class MCS:
    """A constellation and a channel code.

    Attributes:
        modulation: bits to symbols.
        code: its codewords are what is mapped.
    """

    modulation: Modulation
    code: LDPC

    @property
    def name(self) -> str:
        """Such as "16-qam 3/4"."""
        return f"{self.modulation.name} {self.code.code_rate}"

    @property
    def efficiency(self) -> Fraction:
        """Information bits per channel use."""
        return self.modulation.bits_per_symbol * self.code.code_rate

    @classmethod
    def named(cls, name: str) -> MCS:
        """The one of that `name`.

        Raises:
            ValueError: there is none.
        """
        if name not in ALL:
            raise ValueError(f"{name!r} is no modulation and code rate; known: {', '.join(ALL)}")
        return ALL[name]


ALL = {
    mcs.name: mcs
    for mcs in (
        MCS(Modulation(name), LDPC(rate)) for name, rate in product(BITS_PER_SYMBOL, CODE_RATES)
    )
}


@cache
def thresholds_db() -> dict[str, float]:
    """By name of an MCS: the lowest Es/N0 in dB over AWGN at which codewords hardly ever get lost.

    `benchmarks/mcs.py` measured it; the file in the package says how many of how many were lost.
    """
    text = files("diffjscc.codecs.digital").joinpath(TABLE).read_text(encoding="utf-8")
    return {row["mcs"]: row["snr_db"] for row in json.loads(text)["rows"]}


def most_efficient(snr_db: float) -> MCS | None:
    """The MCS that carries most at an Es/N0 in dB; None where it is below every threshold."""
    # As float32, which SNRs are elsewhere: 4.1 dB is then not below a threshold of 4.1 dB.
    single = np.float32(snr_db)
    usable = [ALL[name] for name, needed in thresholds_db().items() if np.float32(needed) <= single]
    return max(usable, key=lambda mcs: mcs.efficiency, default=None)

"""Modulation and coding schemes (MCS), and their measured SNR thresholds."""

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

ITERATIONS = 20  # of belief propagation, in links and in the measurement of the table
TABLE = "mcs.json"


@dataclass(frozen=True)
class MCS:
    """A constellation and a channel code.

    Attributes:
        modulation: constellation and mapping.
        code: channel code.
    """

    modulation: Modulation
    code: LDPC

    @property
    def name(self) -> str:
        """Name, such as "16-qam 3/4"."""
        return f"{self.modulation.name} {self.code.code_rate}"

    @property
    def efficiency(self) -> Fraction:
        """Information bits per channel use."""
        return self.modulation.bits_per_symbol * self.code.code_rate

    @classmethod
    def named(cls, name: str) -> MCS:
        """Look an MCS up by its name.

        Raises:
            ValueError: the name is unknown.
        """
        if name not in ALL:
            raise ValueError(f"{name!r} is not a modulation and code rate; known: {', '.join(ALL)}")
        return ALL[name]


ALL = {
    mcs.name: mcs
    for mcs in (
        MCS(Modulation(name), LDPC(rate)) for name, rate in product(BITS_PER_SYMBOL, CODE_RATES)
    )
}


@cache
def thresholds_db() -> dict[str, float]:
    """Read the SNR threshold of each MCS by its name: Es/N0 in dB on AWGN.

    Measured by `benchmarks/mcs.py`; the file in the package has the frame error rates.
    """
    text = files("diffjscc.codecs.digital").joinpath(TABLE).read_text(encoding="utf-8")
    return {row["mcs"]: row["snr_db"] for row in json.loads(text)["rows"]}


def most_efficient(snr_db: float) -> MCS | None:
    """Choose the MCS of highest efficiency at an Es/N0 in dB; None below all thresholds."""
    # SNRs are float32 elsewhere; thresholds are compared as such, so that 4.1 dB meets 4.1 dB.
    single = np.float32(snr_db)
    usable = [ALL[name] for name, needed in thresholds_db().items() if np.float32(needed) <= single]
    return max(usable, key=lambda mcs: mcs.efficiency, default=None)

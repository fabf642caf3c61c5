"""The lowest SNR at which each modulation and coding scheme works: the table in the package.

    python benchmarks/mcs.py [-o src/diffjscc/codecs/digital/mcs.json]

Codewords of random bits are sent over AWGN at rising Es/N0, until at most one of 10,000 is lost.
Points far below that are left after a few lost codewords. It takes half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from rich.progress import track

from diffjscc.codecs.digital.ldpc import BLOCK_LENGTH
from diffjscc.codecs.digital.mcs import ALL, ITERATIONS, MCS, TABLE

STEP_DB = 0.25
CODEWORDS = 40_000
MOST_LOST = 4
BATCH = 240  # codewords; a whole number of symbols in each constellation

PACKAGED = Path(__file__).parents[1] / "src/diffjscc/codecs/digital" / TABLE


def lost_codewords(mcs: MCS, snr_db: float, codewords: int, most_lost: int) -> tuple[int, int]:
    """Codewords lost and sent; stops as soon as more than `most_lost` are lost."""
    generator = torch.Generator().manual_seed(0)
    noise_power = 10 ** (-snr_db / 10)
    lost = sent = 0
    while sent < codewords and lost <= most_lost:
        bits = torch.rand(BATCH, mcs.code.k, generator=generator) < 0.5
        symbols = mcs.modulation.map(mcs.code.encode(bits).flatten())
        noise = torch.randn(symbols.shape, dtype=torch.complex64, generator=generator)
        llr = mcs.modulation.demap(symbols + math.sqrt(noise_power) * noise, noise_power)
        decoded, _ = mcs.code.decode(llr.reshape(BATCH, BLOCK_LENGTH), ITERATIONS)
        lost += int((decoded != bits).any(dim=1).sum())
        sent += BATCH
    return lost, sent


def threshold(mcs: MCS) -> dict[str, str | float | int]:
    """The first point of the grid, from Shannon's limit on, that loses few enough."""
    limit_db = 10 * math.log10(2 ** float(mcs.efficiency) - 1)
    snr_db = math.floor(limit_db / STEP_DB) * STEP_DB
    while True:
        lost, sent = lost_codewords(mcs, snr_db, CODEWORDS, MOST_LOST)
        if lost <= MOST_LOST:
            return {"mcs": mcs.name, "snr_db": snr_db, "lost": lost, "codewords": sent}
        snr_db += STEP_DB


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=PACKAGED)
    arguments = parser.parse_args()
    rows = []
    for mcs in track(ALL.values(), description="measuring"):
        rows.append(threshold(mcs))
        print(rows[-1], flush=True)
    table = {"iterations": ITERATIONS, "step_db": STEP_DB, "rows": rows}
    arguments.output.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()

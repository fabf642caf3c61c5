"""Codewords per second on one core, and block error rates of the four LDPC codes.

    python benchmarks/ldpc.py [--quick] [-o ldpc.json]
    python benchmarks/ldpc.py --waterfalls ldpc.json

Speed is in CPU time on one thread, so that other work on the machine does not enter, and with all
iterations spent, on LLRs that no iteration can settle. Block error rates are those of BPSK over
AWGN; each point stops at 50 lost blocks. Where sionna is installed, its flooding decoder gets the
same.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from diffjscc.codecs.digital.ldpc import BLOCK_LENGTH, CODE_RATES, LDPC
from diffjscc.codecs.digital.modulation import Modulation
from figures import Figure, Figures, machine, main, write

ITERATIONS = 20
BATCH = 64
LOST_BLOCKS = 50
STEP_DB = 0.25
MOST_BLOCKS = 2048  # that are sent per point
UNIT = "codewords/CPU s"

Decoder = Callable[[Tensor], Tensor]


def decoders_of(code: LDPC) -> dict[str, Decoder]:
    """Ours, and sionna's if it is there: LLRs [B, 1944] to information bits [B, k]."""
    decoders: dict[str, Decoder] = {"diffjscc": lambda llr: code.decode(llr, ITERATIONS)[0]}
    try:
        from sionna.phy.fec.ldpc import LDPCBPDecoder  # noqa: PLC0415
    except ImportError:
        return decoders
    matrix = code.parity_check.double().numpy()
    flooding = LDPCBPDecoder(matrix, "boxplus", num_iter=ITERATIONS, device="cpu")
    decoders["sionna"] = lambda llr: flooding(-llr)[:, : code.k].bool()
    return decoders


def speed(work: Callable[[], object], codewords: int) -> float:
    """Codewords per second of CPU time, the best of three."""
    work()
    seconds = []
    for _ in range(3):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return round(codewords / min(seconds))


def lost_blocks(code: LDPC, decoder: Decoder, eb_n0_db: float, most: int) -> tuple[int, int]:
    """Blocks lost and sent; the noise is the same for every decoder."""
    bpsk, generator = Modulation("bpsk"), torch.Generator().manual_seed(0)
    noise_power = 1 / (float(code.code_rate) * 10 ** (eb_n0_db / 10))
    lost = sent = 0
    while lost < LOST_BLOCKS and sent < most:
        bits = torch.rand(BATCH, code.k, generator=generator) < 0.5
        noise = torch.randn(BATCH, BLOCK_LENGTH, dtype=torch.complex64, generator=generator)
        received = bpsk.map(code.encode(bits)) + math.sqrt(noise_power) * noise
        decoded = decoder(bpsk.demap(received, noise_power))
        lost += int((decoded != bits).any(dim=1).sum())
        sent += BATCH
    return lost, sent


@torch.no_grad()
def measure(quick: bool) -> Figures:
    """Time every code; the two of the lowest rates alone if quick."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    figures: Figures = {}
    for rate in CODE_RATES[: 2 if quick else None]:
        code = LDPC(rate)
        bits, unsettled = torch.rand(BATCH, code.k) < 0.5, torch.randn(BATCH, BLOCK_LENGTH)
        figures[f"encode, rate {rate}"] = Figure(speed(partial(code.encode, bits), BATCH), UNIT)
        for name, decoder in decoders_of(code).items():
            label = f"{'' if name == 'diffjscc' else 'peer: '}decode, rate {rate}"
            figures[label] = Figure(speed(partial(decoder, unsettled), BATCH), UNIT)
    return figures


def waterfalls(code: LDPC, most: int) -> dict[str, object]:
    """Block error rates of one code; a curve ends once fewer than 1 of 500 blocks is lost."""
    report: dict[str, object] = {}
    for name, decoder in decoders_of(code).items():
        curve = []
        eb_n0_db = math.floor(8 * float(code.code_rate) - 3.5)  # just below the waterfall
        while not curve or curve[-1]["lost"] / curve[-1]["sent"] >= 0.002:
            lost, sent = lost_blocks(code, decoder, eb_n0_db, most)
            curve.append({"eb_n0_db": eb_n0_db, "lost": lost, "sent": sent})
            eb_n0_db += STEP_DB
        report[name] = {"block_error_rate": curve}
    return report


@torch.no_grad()
def measure_waterfalls(output: Path) -> None:
    """Write the block error rates of all codes."""
    torch.manual_seed(0)
    codes = {str(rate): waterfalls(LDPC(rate), MOST_BLOCKS) for rate in CODE_RATES}
    write(output, {"iterations": ITERATIONS, "machine": machine(), "codes": codes})


if __name__ == "__main__":
    if "--waterfalls" in sys.argv:
        measure_waterfalls(Path(sys.argv[-1]))
    else:
        main(__doc__, measure)

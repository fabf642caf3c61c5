"""Codewords per second on one core, and block error rates of the four LDPC codes.

    python benchmarks/ldpc.py [-o ldpc.json]

Speed is in CPU time on one thread, so that other work on the machine does not enter, and with all
iterations spent, on LLRs that no iteration can settle. Block error rates are those of BPSK over
AWGN; each point stops at 50 lost blocks. Where sionna is installed, its flooding decoder gets the
same.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from diffjscc.codecs.digital.ldpc import BLOCK_LENGTH, CODE_RATES, LDPC
from diffjscc.codecs.digital.modulation import Modulation

ITERATIONS = 20
BATCH = 64
LOST_BLOCKS = 50
STEP_DB = 0.25

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


def measure(code: LDPC, most: int) -> dict[str, object]:
    """Speeds and waterfalls of one code; a curve ends once fewer than 1 of 500 blocks is lost."""
    bits = torch.rand(BATCH, code.k) < 0.5
    unsettled = torch.randn(BATCH, BLOCK_LENGTH)
    report: dict[str, object] = {"encode_codewords_per_s": speed(lambda: code.encode(bits), BATCH)}
    for name, decoder in decoders_of(code).items():
        curve = []
        eb_n0_db = math.floor(8 * float(code.code_rate) - 3.5)  # just below the waterfall
        while not curve or curve[-1]["lost"] / curve[-1]["sent"] >= 0.002:
            lost, sent = lost_blocks(code, decoder, eb_n0_db, most)
            curve.append({"eb_n0_db": eb_n0_db, "lost": lost, "sent": sent})
            eb_n0_db += STEP_DB
        rate = speed(lambda decoder=decoder: decoder(unsettled), BATCH)
        report[name] = {"decode_codewords_per_s": rate, "block_error_rate": curve}
    return report


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--blocks", type=int, default=2048, help="the most to send per point")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    report = {
        "iterations": ITERATIONS,
        "machine": platform.machine(),
        "torch": str(torch.__version__),
        "codes": {str(rate): measure(LDPC(rate), arguments.blocks) for rate in CODE_RATES},
    }
    print(json.dumps(report, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Samples a second that the radio receiver works off on one core, before any codec.

    python benchmarks/radio.py [--quick] [-o radio.json]

Frames of a 768x512 image at R = 1/128 (3,072 symbols) back to back at 10 dB, frames of R = 1/16
(24,576 symbols), and noise alone. Seconds are those of the process's own time on the CPU.
"""

from __future__ import annotations

import os
import time
from fractions import Fraction

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402

from diffjscc.radio.captures import Samples  # noqa: E402
from diffjscc.radio.frame import frame_samples  # noqa: E402
from diffjscc.radio.front_end import white_noise  # noqa: E402
from diffjscc.radio.header import Header  # noqa: E402
from diffjscc.radio.presets import WAVEFORMS  # noqa: E402
from diffjscc.radio.receiver import ReceivedFrame, receive_frames  # noqa: E402
from figures import Figure, Figures, main  # noqa: E402

REPEATS = 5
UNIT = "million samples/CPU s"


def frames(waveform: str, symbols: int, count: int) -> np.ndarray:
    """Frames of Gaussian symbols, 200 silent samples between them, at 10 dB."""
    random = np.random.default_rng(0)
    parts = [np.zeros(200, np.complex64)]
    for number in range(count):
        values = random.standard_normal((symbols, 2)).astype(np.float32).view(np.complex64)[:, 0]
        values /= np.sqrt(np.mean(np.abs(values) ** 2))
        header = Header(0, "0" * 12, Fraction(1, 128), 512, 768, symbols, 10.0, number)
        parts += [frame_samples(WAVEFORMS[waveform], header, values), parts[0]]
    return white_noise(np.concatenate(parts), 0.1, random)


def rate(samples: np.ndarray, expected: int) -> float:
    """Millions of samples a second, the median of some runs; all frames must be found."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        found = list(receive_frames(Samples(samples)))
        seconds.append(time.process_time() - start)
        assert sum(isinstance(frame, ReceivedFrame) for frame in found) == expected
    return len(samples) / sorted(seconds[1:])[REPEATS // 2] / 1e6  # the first one warms up


def measure(quick: bool) -> Figures:
    """Time every waveform; the first alone if quick."""
    torch.set_num_threads(1)
    figures: Figures = {}
    for waveform in list(WAVEFORMS)[: 1 if quick else None]:
        for symbols, count in ((3072, 20), (24576, 6)):
            found = rate(frames(waveform, symbols, count), count)
            figures[f"{waveform}, {symbols} symbols"] = Figure(found, UNIT)
    noise = white_noise(np.zeros(4_000_000, np.complex64), 1.0, np.random.default_rng(1))
    figures["noise"] = Figure(rate(noise, 0), UNIT)
    return figures


if __name__ == "__main__":
    main(__doc__, measure)

"""Missed detections, lost headers and false alarms of the radio receiver, by Monte Carlo.

    python benchmarks/radio_detection.py [--frames 1000] [-o radio_detection.json]

Every frame has a carrier offset of up to a subcarrier spacing, 1/64 of the sample rate, a sample
clock within 20 ppm, any timing and any phase.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.stats import beta

from diffjscc.radio import front_end
from diffjscc.radio.captures import Samples
from diffjscc.radio.frame import frame_samples
from diffjscc.radio.header import Header
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.radio.receiver import receive_frame
from diffjscc.radio.synchronisation import find_preambles

SYMBOLS = 64
NOISE_SAMPLES = 10_000_000  # 10 s at 1 MHz


def upper(count: int, trials: int) -> float:
    """Upper end of the 95 % interval (Clopper and Pearson, one-sided)."""
    return float(beta.ppf(0.95, count + 1, trials - count)) if count < trials else 1.0


def trial(waveform: str, snr_db: float, seed: int) -> tuple[bool, bool]:
    """Send a frame; whether its preamble was found, and its header read."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((SYMBOLS, 2)).astype(np.float32).view(np.complex64)[:, 0]
    values /= np.sqrt(np.mean(np.abs(values) ** 2))
    header = Header(0, f"{seed:012x}", Fraction(1, 16), 32, 32, SYMBOLS, snr_db, seed % 65536)
    sent = frame_samples(WAVEFORMS[waveform], header, values)
    before = int(random.integers(200, 3000))
    samples = np.pad(sent, (before, 300))
    samples = front_end.timing_offset(samples, random.random())
    samples = front_end.clock_offset(samples, random.uniform(-20, 20))
    samples = front_end.carrier_offset(samples, random.uniform(-1, 1) / 64, random.uniform(0, 6.28))
    capture = Samples(front_end.white_noise(samples, 10 ** (-snr_db / 10), random))
    for found in find_preambles(capture):
        if abs(found.start - before) < 8 and found.waveform == waveform:
            return True, getattr(receive_frame(capture, found), "header", None) == header
    return False, False


def false_alarms() -> int:
    """Count preambles found in noise."""
    alarms = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        silence = np.zeros(NOISE_SAMPLES // 10, np.complex64)
        alarms += len(list(find_preambles(Samples(front_end.white_noise(silence, 1.0, random)))))
    return alarms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--waveforms", nargs="+", default=list(WAVEFORMS))
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    alarms = false_alarms()
    print(f"false alarms in {NOISE_SAMPLES:,} samples of noise: {alarms}", flush=True)
    rows = []
    for waveform in arguments.waveforms:
        for snr_db, frames in ((-3.0, 1), (0.0, 1), (3.0, 3)):
            trials = frames * arguments.frames
            outcomes = [trial(waveform, snr_db, seed) for seed in range(trials)]
            missed = sum(not found for found, _ in outcomes)
            lost = sum(found and not read for found, read in outcomes)
            row = {"waveform": waveform, "snr_db": snr_db, "frames": trials}
            row |= {"missed": missed, "missed_below": round(upper(missed, trials), 5)}
            row |= {"headers_lost": lost, "lost_below": round(upper(lost, trials), 5)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    report = {"rows": rows, "noise_samples": NOISE_SAMPLES, "false_alarms": alarms}
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

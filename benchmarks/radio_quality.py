"""Cost of the radio against a link whose receiver knows channel and noise: PSNR, SNR, bit errors.

    python benchmarks/radio_quality.py [IMAGE] [--frames 20] [-o radio_quality.json]

The same image by the bundled codec (R = 1/64, no refiner), the same noise power. "known" is the
codec over `AWGN`, or over multipath the same samples demodulated with the channel as it is.
"""

from __future__ import annotations

import argparse
import json
import math
from fractions import Fraction
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray

from diffjscc import AWGN, psnr
from diffjscc.channels.multipath import tapped_delay_line
from diffjscc.data.images import load_image
from diffjscc.radio import front_end
from diffjscc.radio.captures import Samples
from diffjscc.radio.frame import Layout, frame_samples
from diffjscc.radio.header import Header
from diffjscc.radio.presets import WAVEFORMS
from diffjscc.radio.receiver import ReceivedFrame, receive_frames
from diffjscc.radio.sequences import PREAMBLE_LENGTH
from diffjscc.schemes.air import Transmitter
from diffjscc.schemes.digital_options import DigitalOptions
from diffjscc.schemes.loader import load_scheme
from diffjscc.schemes.options import RefinerOptions
from diffjscc.symbols import ChannelState, Received

Complex = NDArray[np.complex64]
RATE = "1/64"
BEFORE, AFTER = 500, 300
BANDWIDTH = 20e6


def psnr_of(scheme: object, received: Received, image: torch.Tensor) -> float:
    """PSNR of the codec's image in dB."""
    with torch.no_grad():
        return float(psnr(scheme.decode(received).image, image))  # type: ignore[attr-defined]


def one_frame(samples: Complex) -> ReceivedFrame | None:
    """The only frame in samples, if it was received."""
    frames = [f for f in receive_frames(Samples(samples)) if isinstance(f, ReceivedFrame)]
    return frames[0] if frames else None


def awgn(scheme: object, image: torch.Tensor, name: str, snr_db: float, frames: int) -> dict:
    """One waveform at one Es/N0."""
    header, symbols = sent_at(snr_db, image)
    clean = np.pad(frame_samples(WAVEFORMS[name], header, symbols), (BEFORE, AFTER))
    known, found, estimates = [], [], []
    for seed in range(frames):
        noise = torch.Generator().manual_seed(seed)
        values = scheme.send(image, AWGN(snr_db), noise)  # type: ignore[attr-defined]
        known.append(psnr_of(scheme, values, image))
        random = np.random.default_rng(seed)
        turned = front_end.carrier_offset(
            clean, random.uniform(-1, 1) / 64, random.uniform(0, 6.28)
        )
        frame = one_frame(front_end.white_noise(turned, 10 ** (-snr_db / 10), random))
        if frame is not None:
            found.append(psnr_of(scheme, frame.received, image))
            estimates.append(frame.report.snr_db - snr_db)
    return {
        "waveform": name,
        "snr_db": snr_db,
        "received": f"{len(found)}/{frames}",
        "snr_error_db": round(float(np.mean(estimates)), 3),
        "snr_error_rms_db": round(float(np.sqrt(np.mean(np.square(estimates)))), 3),
        "psnr_known": round(float(np.mean(known)), 3),
        "psnr": round(float(np.mean(found)), 3),
    }


TRANSMITTER: list[Transmitter] = []


def sent_at(snr_db: float, image: torch.Tensor) -> tuple[Header, Complex]:
    """Header and payload of the image, encoded for an SNR."""
    header, symbols = TRANSMITTER[0].encode(image[0], snr_db, 0)
    return header, symbols.values[0].numpy()


def impulse_response(profile: str, spread_ns: float, random: np.random.Generator) -> Complex:
    """Taps at the sample rate of one realisation: paths between samples by a windowed sinc."""
    line = tapped_delay_line(profile, spread_ns, BANDWIDTH)  # type: ignore[arg-type]
    delays, powers = line.delays.numpy(), line.powers.numpy()
    fades = random.standard_normal((len(delays), 2)).view(np.complex128)[:, 0] * np.sqrt(powers / 2)
    places = np.arange(-4, int(delays.max()) + 5)
    distance = places[:, None] - delays
    window = np.where(np.abs(distance) < 4, 0.5 + 0.5 * np.cos(np.pi * distance / 4), 0)
    return ((np.sinc(distance) * window) @ fades).astype(np.complex64)


def multipath(
    scheme: object,
    image: torch.Tensor,
    name: str,
    profile: tuple[str, float],
    snr_db: float,
    frames: int,
) -> dict:
    """One waveform over one profile: the receiver's estimates against the channel as it is."""
    form = WAVEFORMS[name]
    header, symbols = sent_at(snr_db, image)
    layout = Layout(form, header.symbols)
    clean = np.pad(frame_samples(form, header, symbols), (BEFORE, AFTER))
    known, found, outages = [], [], 0
    for seed in range(frames):
        random = np.random.default_rng(seed)
        taps = impulse_response(*profile, random)
        noise_power = 10 ** (-snr_db / 10)
        samples = front_end.white_noise(front_end.multipath(clean, taps), noise_power, random)
        frame = one_frame(samples)
        if frame is None:
            outages += 1
            continue
        # Rows begin where the path of delay 0 does: four samples behind the response's first tap.
        rows = samples[BEFORE + 4 + PREAMBLE_LENGTH :]
        bins = form.demodulate(rows, layout.rows, 0.0, 0.0)
        delays = np.arange(len(taps)) - 4
        response = np.exp(-2j * np.pi * np.outer(form.bins, delays) / form.size) @ taps
        gain = np.broadcast_to(response, bins.shape).astype(np.complex64)[layout.data_rows]
        values, gain = form.equalised(bins[layout.data_rows], gain, noise_power)
        state = ChannelState(
            torch.from_numpy(layout.payload_cells(gain))[None], torch.tensor([snr_db])
        )
        payload = torch.from_numpy(layout.payload_cells(values))[None]
        ideal = Received(payload, (header.height, header.width), header.rate, state)
        known.append(psnr_of(scheme, ideal, image))
        found.append(psnr_of(scheme, frame.received, image))
    return {
        "waveform": name,
        "profile": f"{profile[0]}, {profile[1]:g} ns",
        "snr_db": snr_db,
        "frames": frames,
        "lost": outages,
        "psnr_known": round(float(np.mean(known)), 3),
        "psnr": round(float(np.mean(found)), 3),
        "least_psnr": round(float(np.min(found)), 2),
    }


def bit_errors(name: str, frames: int) -> dict:
    """Uncoded QPSK at 7.33 dB, where Q(sqrt(Es/N0)) = 1e-2, with known and estimated channel."""
    snr_db, count = 10 * math.log10(2.3263**2), 20_000
    theory = 0.5 * math.erfc(2.3263 / math.sqrt(2))
    form, layout = WAVEFORMS[name], Layout(WAVEFORMS[name], count)
    wrong = {"known": 0, "estimated": 0}
    for seed in range(frames):
        random = np.random.default_rng(seed)
        signs = 1.0 - 2 * random.integers(0, 2, (count, 2))
        symbols = (signs @ [1, 1j] / np.sqrt(2)).astype(np.complex64)
        header = Header(0, "0" * 12, Fraction(1, 1), 100, 200, count, snr_db)
        clean = np.pad(frame_samples(form, header, symbols), (BEFORE, AFTER))
        samples = front_end.white_noise(clean, 10 ** (-snr_db / 10), random)
        bins = form.demodulate(samples[BEFORE + PREAMBLE_LENGTH :], layout.rows, 0.0, 0.0)
        ideal = layout.payload_cells(form.despread(bins[layout.data_rows]))
        frame = one_frame(samples)
        assert frame is not None
        values, gain = frame.received.values[0].numpy(), frame.received.state.gain[0].numpy()
        for key, decided in (("known", ideal), ("estimated", values * gain.conj())):
            parts = np.stack([decided.real, decided.imag], axis=1)
            wrong[key] += int(np.sum(parts * signs < 0))
    bits = 2 * count * frames
    return {"waveform": name, "bits": bits, "theory": round(theory, 6)} | {
        key: round(value / bits, 6) for key, value in wrong.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    parser.add_argument("image", type=Path, nargs="?", default=default)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--parts", nargs="+", default=["bits", "awgn", "multipath"])
    parser.add_argument("--waveforms", nargs="+", default=list(WAVEFORMS))
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    image = load_image(arguments.image)[None]
    scheme = load_scheme("compact", RATE, "none", RefinerOptions(), "cpu")
    TRANSMITTER.append(Transmitter.load("deepjscc", "compact", RATE, DigitalOptions(), "cpu"))
    rows = []

    def add(kind: str, row: dict) -> None:
        rows.append({"kind": kind} | row)
        print(json.dumps(rows[-1]), flush=True)

    chosen = arguments.waveforms
    for name in chosen if "bits" in arguments.parts else ():
        add("bits", bit_errors(name, arguments.frames))
    for name in chosen if "awgn" in arguments.parts else ():
        for snr_db in (0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 20.0):
            add("awgn", awgn(scheme, image, name, snr_db, arguments.frames))
    profiles = (("tdl-a", 100.0), ("tdl-c", 300.0))
    for name, profile in product(chosen if "multipath" in arguments.parts else (), profiles):
        if name == "ofdm-64" and profile[0] == "tdl-c":
            continue  # its delays of 2.6 µs are beyond a prefix of 0.8 µs
        if name == "single-carrier":
            continue  # its bins see the channel through two pulses
        for snr_db in (10.0, 3.0):
            add("multipath", multipath(scheme, image, name, profile, snr_db, 2 * arguments.frames))
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

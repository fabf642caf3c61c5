"""PSNR of source codecs over an ideal channel code: what the golden file holds.

    python benchmarks/capacity.py KODAK_FOLDER [--source bpg] [--downsample] -o bpg-capacity.json

Each image is sent at the finest quality that fits K·log2(1 + SNR) bits, K being 1/16 channel use
per pixel, and measured on 8-bit images.
"""

from __future__ import annotations

import argparse
import json
import math
from fractions import Fraction
from pathlib import Path

import torch
from rich.progress import track

from diffjscc.channels.awgn import AWGN
from diffjscc.data.images import load_image, quantise
from diffjscc.data.search import find_images
from diffjscc.metrics.fidelity import psnr
from diffjscc.protocols import InfeasibleError
from diffjscc.scheme import Scheme
from diffjscc.schemes.digital import SOURCES, digital_scheme
from diffjscc.schemes.digital_options import DigitalOptions

RATE = Fraction(1, 16)
SNRS_DB = (1.0, 4.0, 7.0, 10.0, 13.0)


def measure(scheme: Scheme, path: Path, snr_db: float) -> dict[str, str | float | None]:
    """Bytes and PSNR in dB of an image, or None where it does not fit at any quality."""
    image = load_image(path)[None]
    row: dict[str, str | float | None] = {"image": path.name, "snr_db": snr_db}
    try:
        received = scheme.send(image, AWGN(snr_db), torch.Generator().manual_seed(0))
    except InfeasibleError:
        return row | {"bytes": None, "psnr": None}
    quality = psnr(quantise(scheme.decode(received).image), image).item()
    assert received.delivered is not None  # of an ideal channel code
    return row | {"bytes": received.delivered.shape[1], "psnr": round(quality, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kodak", type=Path)
    parser.add_argument("--source", choices=SOURCES, default="bpg")
    parser.add_argument("--downsample", action="store_true")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    options = DigitalOptions(downsample=arguments.downsample)
    scheme = digital_scheme(f"{arguments.source}-capacity", RATE, options)
    name = scheme.codec.source.name
    points = [(path, snr) for path in find_images([arguments.kodak]) for snr in SNRS_DB]
    rows = [measure(scheme, *point) for point in track(points, description=name)]
    for snr_db in SNRS_DB:
        values = [row["psnr"] for row in rows if row["snr_db"] == snr_db]
        fitting = [value for value in values if isinstance(value, float)]
        mean = math.fsum(fitting) / len(fitting) if fitting else math.nan
        print(f"{snr_db:4g} dB: {mean:.2f} dB PSNR, mean of {len(fitting)} of {len(values)}")
    result = {"source": name, "rate": str(RATE), "rows": rows}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""PSNR of source codecs over an ideal channel code: what the golden file holds.

    python benchmarks/capacity.py KODAK_FOLDER [--source bpg] -o bpg-capacity.json

Each picture is sent at the finest quality that fits K·log2(1 + SNR) bits, K being 1/16 channel use
per pixel, and measured on 8-bit pictures.
"""

from __future__ import annotations

import argparse
import json
import math
from fractions import Fraction
from pathlib import Path

from rich.progress import track

from diffjscc.codecs.digital.sources.capacity import capacity_bits
from diffjscc.codecs.digital.sources.hevc import HEVCIntra
from diffjscc.codecs.digital.sources.pillow import AVIF, JPEG, JPEG2000, WebP
from diffjscc.codecs.digital.sources.reduced import Ladder, Reduced
from diffjscc.codecs.digital.sources.source import SourceCodec
from diffjscc.data.pictures import find_pictures, load_picture, quantise
from diffjscc.evaluation.metrics import psnr

RATE = Fraction(1, 16)
SNRS_DB = (1.0, 4.0, 7.0, 10.0, 13.0)
SOURCES = {
    "bpg": HEVCIntra,
    "bpg-420": lambda: HEVCIntra("4:2:0"),
    "bpg-ladder": lambda: Ladder([*(Reduced(HEVCIntra(), n) for n in (4, 2)), HEVCIntra()]),
    "jpeg": JPEG,
    "jpeg2000": JPEG2000,
    "webp": WebP,
    "avif": AVIF,
}


def measure(source: SourceCodec, path: Path, snr_db: float) -> dict[str, str | float | None]:
    """Bytes and PSNR in dB of a picture, or None where it does not fit at any quality."""
    picture = load_picture(path)
    size = (picture.shape[-2], picture.shape[-1])
    bits = capacity_bits(math.ceil(RATE * size[0] * size[1]), snr_db)
    data = source.finest(picture, bits)
    row: dict[str, str | float | None] = {"picture": path.name, "snr_db": snr_db}
    if data is None:
        return row | {"bytes": None, "psnr": None}
    image = quantise(source.decode(data, size))
    quality = psnr(image[None], picture[None]).item()
    return row | {"bytes": len(data), "psnr": round(quality, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kodak", type=Path)
    parser.add_argument("--source", choices=SOURCES, default="bpg")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    source: SourceCodec = SOURCES[arguments.source]()
    points = [(path, snr) for path in find_pictures([arguments.kodak]) for snr in SNRS_DB]
    rows = [measure(source, *point) for point in track(points, description=source.name)]
    for snr_db in SNRS_DB:
        values = [row["psnr"] for row in rows if row["snr_db"] == snr_db]
        fitting = [value for value in values if isinstance(value, float)]
        mean = math.fsum(fitting) / len(fitting) if fitting else math.nan
        print(f"{snr_db:4g} dB: {mean:.2f} dB PSNR, mean of {len(fitting)} of {len(values)}")
    result = {"source": source.name, "rate": str(RATE), "rows": rows}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Quality of a codec on Kodak, over rates and SNRs: what the golden file and the cards hold.

    python benchmarks/kodak.py KODAK_FOLDER [--weights compact] -o kodak.json

One transmission per image and operating point, noise as `diffjscc transmit --seed 0` draws it,
measured on 8-bit images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from rich.progress import track

from diffjscc import AWGN, DiffJSCC
from diffjscc.data.images import load_image, quantise
from diffjscc.data.search import find_images
from diffjscc.evaluation.images import SourceImage
from diffjscc.metrics.fidelity import ms_ssim, psnr
from diffjscc.metrics.lpips import LPIPS
from diffjscc.metrics.weights import MetricUnavailable
from diffjscc.pretrained.pretrained import load_codec, open_weights, weights_hash

SNRS_DB = (-5.0, 1.0, 4.0, 7.0, 10.0, 13.0, 20.0)


@torch.no_grad()
def measure(
    scheme: DiffJSCC, snr_db: float, originals: list[torch.Tensor], lpips: LPIPS | None
) -> dict[str, float]:
    """Mean PSNR, MS-SSIM and, where it is available, LPIPS (squeeze) of images [1, 3, H, W]."""
    sums: dict[str, float] = {}
    for original in originals:
        generator = SourceImage("", original[0]).generator(0, 0)
        image = quantise(scheme(original, AWGN(snr_db), generator).image)
        values = {"psnr": psnr(image, original), "ms_ssim": ms_ssim(image, original)}
        if lpips is not None:
            values["lpips_squeeze"] = lpips(image, original)
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value.item() / len(originals)
    return {name: round(value, 4) for name, value in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kodak", type=Path)
    parser.add_argument("--weights", default="compact")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    images = [load_image(path)[None] for path in find_images([arguments.kodak])]
    try:
        lpips = LPIPS.load("squeeze")
    except MetricUnavailable as error:
        print(f"no LPIPS: {error}")
        lpips = None
    rates = load_codec(arguments.weights).rates
    points = [(rate, snr_db) for rate in rates for snr_db in SNRS_DB]
    rows = []
    for rate, snr_db in track(points, description="Kodak"):
        scheme = DiffJSCC.from_pretrained(arguments.weights, rate, refiner=None, device="cpu")
        figures = measure(scheme, snr_db, images, lpips)
        rows.append({"rate": str(rate), "snr_db": snr_db, **figures})
    result = {
        "weights": weights_hash(open_weights(arguments.weights).folder, ["codec"]),
        "images": len(images),
        "rows": rows,
    }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Measure a codec of one's own beside the bundled one: the same images, noise and symbols.

python compare_codecs.py [folder or photo.jpg]
"""

import sys
from fractions import Fraction
from pathlib import Path

import matplotlib
import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc import AWGN, DiffJSCC, Scheme, Symbols, evaluate, normalise_power

SAMPLE = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")


class BlockMeans:
    """Grey means of 8x8 pixels, two to a complex symbol: R = 1/128."""

    rates = (Fraction(1, 128),)

    def encode(self, images: Tensor, csi: object, rate: Fraction) -> Symbols:
        height, width = images.shape[-2:]
        grey = F.pad(images.mean(1, keepdim=True), (0, -width % 16, 0, -height % 16), "replicate")
        means = F.avg_pool2d(grey, 8).flatten(1) - 0.5
        values = normalise_power(torch.complex(*means.chunk(2, 1)))
        image = min(-(-height * width // 128), values.shape[1])
        uses = {"image": image, "padding": values.shape[1] - image}
        return Symbols(values, (height, width), rate, uses_by_kind=uses)

    def decode(self, received: Symbols) -> Tensor:
        height, width = received.image_size
        values = received.equalised
        means = 0.5 + 0.25 * torch.cat((values.real, values.imag), 1)  # 0.25: a usual deviation
        grid = means.clamp(0, 1).view(-1, 1, 2 * -(-height // 16), 2 * -(-width // 16))
        return F.interpolate(grid.expand(-1, 3, -1, -1), scale_factor=8)[..., :height, :width]


def main(images: str | Path = SAMPLE) -> None:
    schemes = {
        "block means": Scheme(BlockMeans(), "1/128"),
        "compact": DiffJSCC.from_pretrained("compact", "1/128", refiner=None),
    }
    for name, scheme in schemes.items():
        records = evaluate(scheme, images, AWGN, snrs_db=[1, 7, 13], metrics=["psnr", "lpips"])
        for record in records:
            psnr, lpips = record.metrics["psnr"], record.metrics["lpips"]
            print(f"{name:12} {record.snr_db:5.1f} dB  PSNR {psnr:5.2f} dB  LPIPS {lpips:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])

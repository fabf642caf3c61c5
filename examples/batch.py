"""Send every image of a folder and write what is received, with a table of what it cost.

python batch.py [FOLDER [OUTPUT]]
"""

import csv
import sys
from pathlib import Path

import matplotlib
import torch

from diffjscc import DiffJSCC, Rayleigh, load_image, psnr, save_image

SAMPLES = Path(matplotlib.get_data_path(), "sample_data")


def main(folder: str | Path = SAMPLES, output: str | Path = "received") -> None:
    scheme = DiffJSCC.from_pretrained("compact", "1/16", refiner=None)
    channel = Rayleigh(snr_db=10.0, transmitter_csi=True)  # mean over fades
    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    with (target / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "pixels", "symbols", "SNR after the fade / dB", "PSNR / dB"])
        for number, path in enumerate(sorted(Path(folder).glob("*.[jp][pn]g"))):
            image = load_image(path)[None]  # [1, 3, H, W] in [0, 1]
            generator = torch.Generator().manual_seed(number)  # other noise for every image
            received = scheme.send(image, channel, generator)
            result = scheme.decode(received)
            save_image(result.image[0], target / f"{path.stem}.png")
            quality = psnr(result.image, image).item()
            size = image.shape[-2] * image.shape[-1]
            snr = received.snr_db.item()
            row = [path.name, size, received.channel_uses, f"{snr:.2f}", f"{quality:.2f}"]
            table.writerow(row)
            print(", ".join(map(str, row)))


if __name__ == "__main__":
    main(*sys.argv[1:3])

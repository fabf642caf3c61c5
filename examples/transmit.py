"""Send one image over a noisy channel, from PIL to PIL.

python transmit.py [photo.jpg]
"""

import sys
from pathlib import Path

import matplotlib
import torch
from PIL import Image

from diffjscc import AWGN, DiffJSCC, to_pil

SAMPLE = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")


def main(photo: str | Path = SAMPLE) -> None:
    image = Image.open(photo).convert("RGB")
    image.thumbnail((512, 512))

    scheme = DiffJSCC.from_pretrained("compact", rate="1/128")  # channel uses per pixel
    generator = torch.Generator().manual_seed(0)
    received = scheme.send(image, AWGN(snr_db=1.0), generator)  # Es/N0 in dB
    result = scheme.decode(received, generator)

    print(f"{image.width}x{image.height} pixels, {received.channel_uses:,} complex symbols,")
    print(f"{received.rate:.4f} channel uses per pixel, {received.snr_db.item():.1f} dB")
    to_pil(result.image)[0].save("received.png")
    to_pil(result.initial)[0].save("received-initial.png")  # of the codec alone


if __name__ == "__main__":
    main(*sys.argv[1:2])

"""Map the details that the receiver invented: where samples of one reception disagree.

python uncertainty.py [photo.jpg]
"""

import sys
from pathlib import Path

import matplotlib
import torch
from PIL import Image

from diffjscc import AWGN, DiffJSCC, disagreement, save_image, uncertainty_image

SAMPLE = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
SAMPLES = 4


def main(photo: str | Path = SAMPLE) -> None:
    image = Image.open(photo).convert("RGB")
    image.thumbnail((256, 256))
    scheme = DiffJSCC.from_pretrained("compact", "1/128")
    received = scheme.send(image, AWGN(snr_db=1.0), torch.Generator().manual_seed(0))

    samples = torch.cat(
        [scheme.decode(received, torch.Generator().manual_seed(n)).image for n in range(SAMPLES)]
    )
    spread = disagreement(samples)  # [H, W], standard deviation as a fraction of full scale
    print(f"samples deviate by {255 * spread.mean():.1f} of 255 levels on average,")
    print(f"by {255 * spread.max():.0f} where they disagree most")
    save_image(uncertainty_image(spread), "uncertainty.png")  # with a colour bar


if __name__ == "__main__":
    main(*sys.argv[1:2])

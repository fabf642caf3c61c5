"""Train a codec on 32x32 pixels at a bandwidth ratio of 1/6, and fine-tune it to 1/12.

K/(3·H·W) = 1/6 and 1/12, as papers on CIFAR-10 have it, are R = 1/2 and 1/4 channel uses per pixel.

    python fine_tune.py [--photo photo.jpg] [--iterations 1000]
"""

import argparse
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from diffjscc import AWGN, DeepJSCC, DeepJSCCConfig, DiffJSCC, load_image, psnr

SAMPLE = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
SIZE = {"base_width": 32, "encoder_width": 64, "decoder_width": 64, "downsamplings": 2}


def tiles(photo: Tensor) -> Tensor:
    """Cut a photograph [3, H, W] into overlapping squares [N, 3, 32, 32]."""
    return photo.unfold(1, 32, 8).unfold(2, 32, 8).permute(1, 2, 0, 3, 4).reshape(-1, 3, 32, 32)


def train(codec: DeepJSCC, images: Tensor, iterations: int, lr: float) -> DiffJSCC:
    generator = torch.Generator().manual_seed(0)
    scheme = DiffJSCC(codec.train(), codec.rates[0])
    optimiser = torch.optim.AdamW(codec.parameters(), lr)
    for _ in range(iterations):
        batch = images[torch.randint(len(images), (16,), generator=generator)]
        snrs_db = 14 * torch.rand(len(batch), generator=generator)  # one for each image
        received = scheme.send(batch, AWGN(snrs_db), generator)
        loss = (codec.reconstruct(received) - batch).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    codec.eval().requires_grad_(False)
    return scheme


def main(photo: Path, iterations: int) -> None:
    left, right = load_image(photo).tensor_split([384], dim=2)  # to train and to test on
    trained: dict[str, Tensor] = {}
    for name, channels, lr in (("1-6", 16, 1e-3), ("1-12", 8, 3e-4)):
        codec = DeepJSCC(DeepJSCCConfig(channels, encoder_blocks=2, decoder_blocks=2, **SIZE))
        fitting = {k: v for k, v in trained.items() if v.shape == codec.state_dict()[k].shape}
        codec.load_state_dict(fitting, strict=False)  # all but the layers next to the symbols
        scheme = train(codec, tiles(left), iterations, lr)
        trained, tests = codec.state_dict(), tiles(right)[::8]
        result = scheme(tests, AWGN(10.0), torch.Generator().manual_seed(2))
        print(f"{name}: R = {scheme.rate}, {psnr(result.image, tests).mean():.2f} dB at 10 dB")
        scheme.save_pretrained(f"weights-{name}")  # for diffjscc transmit --weights weights-1-6


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--photo", type=Path, default=SAMPLE)
    parser.add_argument("--iterations", type=int, default=1000)
    main(**vars(parser.parse_args()))

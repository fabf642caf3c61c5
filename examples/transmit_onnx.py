"""Transmit an image by ONNX Runtime, NumPy and Pillow alone, as a phone or a web page would.

diffjscc export onnx compact -o onnx
python examples/transmit_onnx.py onnx photo.png received.png 7 1/64
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(folder: str, source: str, target: str, snr_db: str, rate: str) -> None:
    encoder, decoder = (
        onnxruntime.InferenceSession(f"{folder}/codec_{end}.onnx") for end in ("encoder", "decoder")
    )
    facts = encoder.get_modelmeta().custom_metadata_map
    index, multiple = facts["rates"].split().index(rate), int(facts["size_multiple"])
    channels = int(facts["channels"].split()[index])
    known = {"snr_db": np.array([snr_db], np.float32), "rate_index": np.array(index)}

    pixels = np.asarray(Image.open(source).convert("RGB"), np.float32) / 255
    height, width, _ = pixels.shape
    margins = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    images = np.pad(pixels, margins, "reflect").transpose(2, 0, 1)[None]
    (latent,) = encoder.run(None, {"images": images, **known})

    halves = latent[0, :channels].reshape(2, -1)  # real and imaginary parts of the symbols
    symbols = halves / np.sqrt(2 * (halves**2).mean())  # of unit mean power
    noise_power = 10 ** (-float(snr_db) / 10)  # per complex symbol: Es/N0
    noise = np.random.default_rng(0).normal(size=symbols.shape) * np.sqrt(noise_power / 2)

    received = np.zeros_like(latent)
    received[0, :channels] = (symbols + noise).reshape(channels, *latent.shape[2:])
    (decoded, *_) = decoder.run(None, {"latent": received, **known})
    image = decoded[0, :, :height, :width].transpose(1, 2, 0).clip(0, 1)
    Image.fromarray((255 * image).round().astype(np.uint8)).save(target)


main(*sys.argv[1:])

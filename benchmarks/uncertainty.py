"""How far the map of disagreement can be trusted: what evaluation/uncertainty.py says of it.

    python benchmarks/uncertainty.py KODAK_FOLDER [--weights compact] [--start noise] -o OUT.json

8 images painted from one transmission at 1 dB, of every image and at every rate given. Per
image, then averaged over images:

    deviation       rms of the map over the pixels, in 8-bit levels
    error           rms of the samples' mean minus the original, in 8-bit levels
    calibration     deviation²·(1 + 1/N) / error²; 1 for samples of the true posterior
    correlation     of the map with the first sample's error, pixel by pixel
    smoothed        the same, both under a Gaussian of σ = 8 pixels
    contrast        as smoothed, with the first sample's local deviation in place of the map
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.ndimage import gaussian_filter

from diffjscc.data.images import load_image
from diffjscc.data.search import find_images
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.transmission import Link
from diffjscc.evaluation.uncertainty import disagreement
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.pretrained.pretrained import open_weights, weights_hash
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.loader import load_scheme
from diffjscc.schemes.options import RefinerOptions

SNR_DB = 1.0
SAMPLES = 8
SIGMA = 8.0  # pixels

Map = NDArray[np.float32]


def correlation(one: Map, other: Map) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def smooth(values: Map) -> Map:
    return np.asarray(gaussian_filter(values, SIGMA))


def figures(samples: torch.Tensor, original: torch.Tensor) -> dict[str, float]:
    """Of images [N, 3, H, W] painted from one transmission of an original [3, H, W]."""
    spread = disagreement(samples)
    error = (samples.mean(dim=0) - original).square().mean().sqrt().item()
    deviation = spread.square().mean().sqrt().item()
    map_ = spread.numpy()
    wrong = (samples[0] - original).square().mean(dim=0).sqrt().numpy()
    smooth_wrong = smooth(wrong)
    grey = samples[0].mean(dim=0).numpy()
    contrast = np.sqrt(np.maximum(smooth(grey**2) - smooth(grey) ** 2, 0))
    return {
        "deviation": 255 * deviation,
        "error": 255 * error,
        "calibration": deviation**2 * (1 + 1 / len(samples)) / error**2,
        "correlation": correlation(map_, wrong),
        "smoothed": correlation(smooth(map_), smooth_wrong),
        "contrast": correlation(contrast, smooth_wrong),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kodak", nargs="+")
    parser.add_argument("--weights", default="compact")
    parser.add_argument("--rates", nargs="+", default=["1/128", "1/16"])
    parser.add_argument("--start", choices=("initial", "noise"), help="of sampling")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    paths, cpu = find_images(arguments.kodak), torch.device("cpu")
    options = RefinerOptions(start=arguments.start)
    rows = []
    for rate in arguments.rates:
        scheme = load_scheme(arguments.weights, rate, "diffusion", options, device="cpu")
        channel, none = ChannelConfig(), MetricEvaluator(())
        link = Link("diffjscc", scheme, channel.at(SNR_DB), channel.label, SNR_DB, 0, none, cpu)
        found = []
        for path in track(paths, description=f"R = {rate}"):
            image = load_image(path)
            found.append(figures(link.samples(SourceImage("", image), 0, SAMPLES), image))
        means = {name: round(float(np.mean([f[name] for f in found])), 3) for name in found[0]}
        rows.append({"rate": rate, "start": arguments.start, "images": len(paths), **means})
    result = {"weights": weights_hash(open_weights(arguments.weights).folder), "rows": rows}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

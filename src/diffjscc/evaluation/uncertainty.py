"""Disagreement of images sampled from the same received symbols, as numbers and as an image.

Bright details are generated: sampled again, they would look different. Dark ones need not be right.
Samples begin at the same initial image and keep its low frequencies, and details that the prior
adds alike each time do not show either: the map is a lower bound of what is generated.

With the bundled weights, 8 samples of each Kodak image and 1 dB, means over images at
R = 1/128 (at 1/16), by benchmarks/uncertainty.py: the rms deviation is 7.8 (2.1) of 255 levels,
the rms error of the samples' mean 22.4 (15.6). Of a sampler of the true posterior,
deviation²·(1 + 1/N) would be error²; here it is a seventh (a fiftieth). So the map shows where
errors are, not how large: it correlates with those of the final image by 0.42 (0.42), and by
0.75 (0.74) where a Gaussian of σ = 8 pixels smoothes both; the local contrast of the final image
alone reaches 0.66 (0.65). Samples from pure noise, on 8 of the images, deviate by 14 (1.7)
levels, but correlate less: 0.66 (0.60).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffjscc.metrics.fidelity import check_images

FULL_SCALE = 24 / 255
COLOURS = "inferno"  # perceptually uniform, from black to yellow


def disagreement(samples: Tensor) -> Tensor:
    """Compute the standard deviation of a receiver's samples at every pixel.

    With v_c the unbiased variance over the N samples of channel c, sqrt((v_R + v_G + v_B) / 3):
    the standard deviation, rms over the channels.

    Args:
        samples: float [N, 3, H, W] in [0, 1], N ≥ 2, from the same received symbols.

    Returns:
        float32 [H, W], as a fraction of full scale; 0 where all samples agree.

    Raises:
        ValueError: fewer than two samples, another shape, or values that leave [0, 1].
    """
    check_images(samples, "samples")
    if len(samples) < 2:
        raise ValueError("one sample has nothing to disagree with; give at least 2")
    return samples.float().var(dim=0).mean(dim=0).sqrt()


def colours(spread: Tensor, full_scale: float = FULL_SCALE) -> Tensor:
    """Colour a map pixel for pixel: black is 0, yellow is `full_scale` and more.

    Args:
        spread: float [H, W], not negative, such as `disagreement` returns.
        full_scale: the same for every image that is to be compared, above 0.

    Returns:
        float32 [3, H, W] in [0, 1], on the CPU.

    Raises:
        ValueError: another shape, negative values, NaN, or no such scale.
    """
    if spread.ndim != 2 or not spread.is_floating_point() or spread.numel() == 0:
        raise ValueError(f"the map is {spread.dtype} {tuple(spread.shape)}; give floats [H, W]")
    low, high = (float(bound) for bound in spread.aminmax())
    if not 0 <= low <= high < float("inf"):
        raise ValueError(f"the map ranges from {low:g} to {high:g}; deviations are finite, from 0")
    if not 0 < full_scale < float("inf"):
        raise ValueError(f"full_scale is {full_scale}; it must be finite and above 0")
    table = _table()
    places = (spread.detach().cpu() / full_scale).clamp(max=1) * (len(table) - 1)
    return table[places.round().long()].permute(2, 0, 1)


def _table() -> Tensor:
    """The colour map's 256 colours, float32 [256, 3]."""
    # Imported here: most transmissions have no map.
    from matplotlib import colormaps  # noqa: PLC0415

    steps = np.linspace(0, 1, 256)
    return torch.from_numpy(colormaps[COLOURS](steps)[:, :3]).float()

"""Unit mean power per image, the definition every SNR in this package rests on."""

from __future__ import annotations

import torch
from torch import Tensor


def normalise_power(values: Tensor) -> Tensor:
    """Scale each image's complex symbols to unit mean power: x / sqrt(mean |x|²).

    Args:
        values: complex [B, K].

    Raises:
        ValueError: an image's symbols are not finite, or are all zero: neither can be sent.
    """
    power = values.abs().square().mean(dim=1, keepdim=True)
    unsendable = ~torch.isfinite(power) | (power == 0)
    if bool(unsendable.any()):
        index = int(unsendable.flatten().nonzero()[0])
        raise ValueError(
            f"the symbols of image {index} have mean power {power[index].item()}; it must be "
            "finite and above 0 (check the image for NaN and the weights for damage)"
        )
    return values / power.sqrt()

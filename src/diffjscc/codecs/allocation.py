"""Symbols for the coefficients that are worth most: which are sent, and with how much power."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Allocation:
    """Coefficients that a round sends, a real number each.

    Attributes:
        places: their positions among all J·h·w coefficients of an image, int64 [B, N].
        amplitudes: factors on them, float32 [B, N].
    """

    places: Tensor
    amplitudes: Tensor

    def take(self, coefficients: Tensor) -> Tensor:
        """Take those coefficients of [B, J, h, w] that are sent, [B, N]."""
        return coefficients.flatten(1).gather(1, self.places)

    def put(self, values: Tensor, everywhere: Tensor) -> Tensor:
        """Replace those of `everywhere` [B, J, h, w] that are sent by values [B, N]."""
        return everywhere.flatten(1).scatter(1, self.places, values).view_as(everywhere)


def water_filling(variances: Tensor, snr: Tensor) -> Tensor:
    """Compute the powers p, of mean 1, that minimise Σ v/(1 + p·SNR), the error behind AWGN.

    p = (c·sqrt(v) - 1)/SNR where that is positive, and else 0.

    Args:
        variances: v, float32 [B, N], descending.
        snr: linear SNR of each real number, float32 [B].

    Returns:
        Float32 [B, N].
    """
    deviations = variances.sqrt()
    number = torch.arange(1, variances.shape[1] + 1, device=variances.device)
    levels = (snr[:, None] * variances.shape[1] + number) / deviations.cumsum(dim=1)
    active = (levels * deviations > 1).sum(dim=1, keepdim=True).clamp(min=1)
    powers = (levels.gather(1, active - 1) * deviations - 1) / snr[:, None]
    return powers.clamp(min=0)


def allocate(variances: Tensor, number: int, snr: Tensor) -> Allocation:
    """Allocate a round's symbols to the coefficients of the largest variances.

    They are sent in the order of their variances: where rounding differs between both ends, two
    coefficients that are almost alike change places, and all others keep theirs.

    Args:
        variances: of all coefficients, float32 [B, J, h, w].
        number: N, of real numbers that are sent; 0 to J·h·w.
        snr: linear SNR of each of them, float32 [B].
    """
    # Stable: coefficients of equal variance are in the same order at both ends.
    values, places = variances.flatten(1).sort(dim=1, descending=True, stable=True)
    powers = water_filling(values[:, :number], snr)
    return Allocation(places[:, :number], (powers / values[:, :number]).sqrt())

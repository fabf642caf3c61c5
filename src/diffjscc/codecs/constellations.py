"""Finite alphabets: symbols of a neural codec on the points of a constellation.

DeepJSCC-Q of Tung, Kurka, Jankowski and Gündüz, arXiv 2206.08100: each symbol is moved to its
nearest point; in training, gradients are those of a softmax over the points (soft to hard).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.channels.power import normalise_power
from diffjscc.choices import ConstellationName
from diffjscc.codecs.digital.modulation import Modulation

SCALES = tuple(0.2 * 2 ** (n / 5) for n in range(14))  # 0.2 to 1.2, in steps of 1.2 dB
HARDNESS = 4.0  # of the softmax: log-odds of a point against its neighbour, at the point itself


def check_constellation(name: str | None) -> None:
    """Raise ValueError unless `name` is None or one of `ConstellationName`."""
    known = get_args(ConstellationName)
    if name is not None and name not in known:
        raise ValueError(f"constellation is {name!r}; it must be one of {', '.join(known)}")


@dataclass(frozen=True)
class Constellation:
    """Quantiser of complex symbols.

    Symbols of QAM are scaled before they are quantised, those of each image by the factor of the
    largest correlation with the points: codecs differ in how often symbols are large. PSK depends
    on phases alone, BPSK on the sign of the real part.

    Attributes:
        name: one of `ConstellationName`.

    Raises:
        ValueError: another name.
    """

    name: ConstellationName

    def __post_init__(self) -> None:
        check_constellation(self.name)

    @property
    def phases(self) -> int | None:
        """Number of points on the circle; None for QAM."""
        sizes = {"bpsk": 2, "qpsk": 4, "8-psk": 8, "16-psk": 16}
        return sizes.get(self.name)

    @property
    def _turn(self) -> float:
        """Phase of the first point, in steps; points of QPSK lie between the axes."""
        return 0.5 if self.name == "qpsk" else 0.0

    @cached_property
    def points(self) -> Tensor:
        """Points of mean energy 1, complex64 [M]."""
        if self.phases is None:
            return Modulation(self.name).constellation
        angles = 2 * math.pi * (torch.arange(self.phases) + self._turn) / self.phases
        return torch.polar(torch.ones(self.phases), angles)

    @cached_property
    def levels(self) -> Tensor:
        """Amplitudes of QAM in each real dimension, ascending, float32 [√M]."""
        levels: Tensor = torch.unique(self.points.real)
        return levels

    def scales(self, values: Tensor) -> Tensor:
        """Factors on images' symbols [B, K] before they are quantised, float32 [B, 1]; 1 for PSK.

        Of `SCALES`, those of the largest correlation of symbols and points.
        """
        if self.phases is not None:
            return values.real.new_ones(len(values), 1)
        levels, parts = self.levels.to(values.device), torch.view_as_real(values.detach())
        correlations = []
        for scale in SCALES:
            nearest = levels[_nearest(scale * parts, levels)]
            power = nearest.square().sum(dim=(1, 2))
            correlations.append((nearest * parts).sum(dim=(1, 2)) / power.sqrt())
        best = torch.stack(correlations).argmax(0)
        return torch.tensor(SCALES, device=values.device)[best][:, None]

    def hard(self, values: Tensor) -> Tensor:
        """Nearest points of scaled symbols, complex64 [B, K]."""
        if self.phases is None:
            levels = self.levels.to(values.device)
            parts = torch.view_as_real(values)
            on_levels: Tensor = levels[_nearest(parts, levels)]
            return torch.view_as_complex(on_levels)
        step = 2 * math.pi / self.phases
        number = (values.angle() / step - self._turn).round().long() % self.phases
        points: Tensor = self.points.to(values.device)[number]
        return points

    def soft(self, values: Tensor) -> Tensor:
        """Means of the points, weighed by a softmax of their distances, complex64 [B, K]."""
        if self.phases is None:
            levels = self.levels.to(values.device)
            parts = torch.view_as_real(values)
            weights = _softmax((parts[..., None] - levels).square(), float(levels[1] - levels[0]))
            return torch.view_as_complex((weights * levels).sum(-1))
        points = self.points.to(values.device)
        distances = torch.view_as_real(values[..., None] - points).square().sum(-1)
        weights = _softmax(distances, 2 * math.sin(math.pi / self.phases))
        return torch.complex((weights * points.real).sum(-1), (weights * points.imag).sum(-1))

    def __call__(self, values: Tensor) -> Tensor:
        """Quantise symbols of mean power 1, complex64 [B, K], and give them that power again.

        The factor, one for each image, is not known to the receiver. With gradients the value is
        that of the nearest points, and the gradient that of `soft`.
        """
        scaled = self.scales(values) * values
        quantised = self.hard(scaled.detach())
        if scaled.requires_grad:
            soft = self.soft(scaled)
            quantised = quantised + (soft - soft.detach())
        return normalise_power(quantised)


def _nearest(values: Tensor, levels: Tensor) -> Tensor:
    """Positions of the nearest of ascending levels."""
    return torch.bucketize(values.contiguous(), (levels[1:] + levels[:-1]) / 2)


def _softmax(squared: Tensor, spacing: float) -> Tensor:
    return F.softmax(-HARDNESS / spacing**2 * squared, dim=-1)

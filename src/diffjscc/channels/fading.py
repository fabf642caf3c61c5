"""Block fading: one complex gain per image, E|h|² = 1."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffjscc.channels.noise import checked_snr, complex_normal, send
from diffjscc.checks import check_flag, check_number
from diffjscc.symbols import ChannelState, Generators, Received, Symbols


@dataclass(frozen=True)
class Rician:
    """y = h·x + n with h = sqrt(k/(k+1)) + sqrt(1/(k+1))·CN(0, 1), one h per image.

    The receiver knows h and N0, equalises by zero forcing, and hands on |h|²/N0.

    Attributes:
        snr_db: mean Es/N0 in dB, one number or float [B]; N0 does not follow the fade.
        k_factor: power of the line-of-sight path over that of the scattered ones, linear, >= 0.
        transmitter_csi: whether the transmitter knows h before it encodes.
    """

    snr_db: float | Tensor
    k_factor: float = 4.0
    transmitter_csi: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_flag(self.transmitter_csi, "transmitter_csi")
        check_number(self.k_factor, "k_factor")
        if self.k_factor < 0:
            raise ValueError(f"k_factor is {self.k_factor}; it must be finite and at least 0")

    def sample_state(
        self, batch: int, generator: Generators = None, device: torch.device | str = "cpu"
    ) -> ChannelState:
        """Sample one gain per image."""
        snr_db = checked_snr(self.snr_db, batch, device)
        scattered = complex_normal((batch, 1), generator, device)
        k = self.k_factor
        gain = math.sqrt(k / (k + 1)) + math.sqrt(1 / (k + 1)) * scattered
        return ChannelState(gain, snr_db, self.transmitter_csi)

    def __call__(
        self, symbols: Symbols, generator: Generators = None, state: ChannelState | None = None
    ) -> Received:
        """Send complex64 [B, K] symbols; see `Channel`."""
        return send(self, symbols, generator, state)


@dataclass(frozen=True)
class Rayleigh(Rician):
    """Rician fading without a line of sight: h ~ CN(0, 1).

    Attributes:
        snr_db: mean Es/N0 in dB, one number or float [B].
        transmitter_csi: whether the transmitter knows h before it encodes.
    """

    k_factor: float = field(default=0.0, init=False)

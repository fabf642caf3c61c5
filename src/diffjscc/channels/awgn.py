"""The additive white Gaussian noise channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffjscc.channels.noise import noise_power, send
from diffjscc.scheme import ChannelState, Generators, Received, Symbols, as_batch


@dataclass(frozen=True)
class AWGN:
    """y = x + n, n ~ CN(0, 10^(-snr_db/10)).

    Attributes:
        snr_db: Es/N0 in dB, one number or float [B].
    """

    snr_db: float | Tensor

    @property
    def transmitter_csi(self) -> bool:
        """There is no fade to know."""
        return False

    def draw(
        self, batch: int, generator: Generators = None, device: torch.device | str = "cpu"
    ) -> ChannelState:
        """Gain 1 and the noise power; nothing is random."""
        del generator
        snr_db = as_batch(self.snr_db, batch, device, "snr_db")
        gain = torch.ones(batch, 1, dtype=torch.complex64, device=device)
        return ChannelState(gain, noise_power(snr_db))

    def __call__(
        self, symbols: Symbols, generator: Generators = None, state: ChannelState | None = None
    ) -> Received:
        """Send complex64 [B, K] symbols; see `Channel`."""
        return send(self, symbols, generator, state)

"""The additive white Gaussian noise channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffjscc.channels.noise import checked_snr, send
from diffjscc.symbols import ChannelState, Generators, Received, Symbols


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

    def sample_state(
        self, batch: int, generator: Generators = None, device: torch.device | str = "cpu"
    ) -> ChannelState:
        """Return gain 1 at the SNR; nothing is random."""
        del generator
        gain = torch.ones(batch, 1, dtype=torch.complex64, device=device)
        return ChannelState(gain, checked_snr(self.snr_db, batch, device))

    def __call__(
        self, symbols: Symbols, generator: Generators = None, state: ChannelState | None = None
    ) -> Received:
        """Send complex64 [B, K] symbols; see `Channel`."""
        return send(self, symbols, generator, state)

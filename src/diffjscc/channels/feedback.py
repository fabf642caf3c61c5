"""The link from the receiver back to the transmitter."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diffjscc.channels.noise import checked_snr, complex_normal
from diffjscc.symbols import Generators, Received


@dataclass(frozen=True)
class FeedbackLink:
    """Received symbols on their way back, with the receiver's CSI.

    The receiver scales an image's symbols y to unit power and sends them over AWGN; the transmitter
    scales back: y + sqrt(mean |y|²)·n, n ~ CN(0, 10^(-snr_db/10)). One use of this link for each
    symbol; scale and CSI are few numbers and taken as known.

    Attributes:
        snr_db: Es/N0 of this link in dB; None: noiseless.

    Raises:
        ValueError: an SNR beyond ±200 dB.
    """

    snr_db: float | None = None

    def __post_init__(self) -> None:
        if self.snr_db is not None:
            checked_snr(self.snr_db, 1)

    def __call__(self, received: Received, generator: Generators = None) -> Received:
        """Return what the transmitter knows of received symbols, complex64 [B, K]."""
        if self.snr_db is None:
            return received
        values = received.values
        shape = (values.shape[0], values.shape[1])
        amplitude = values.abs().square().mean(dim=1, keepdim=True).sqrt()
        noise = 10 ** (-self.snr_db / 20) * complex_normal(shape, generator, values.device)
        return replace(received, values=values + amplitude * noise)

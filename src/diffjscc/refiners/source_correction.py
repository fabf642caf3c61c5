"""Iterative source error correction: received symbols are corrected by what photographs look like.

Lee, Hu, Kim, "Deep joint source-channel coding with iterative source error correction", arXiv
2302.09174: gradient ascent on log p(y | z) + log p(z) over the codeword z, with no training of the
codec. A denoiser of photographs gives the prior's gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffjscc.protocols import Codec, Reconstruction
from diffjscc.symbols import SILENCE, ChannelState, Generators, Received

# Maps images [B, 3, H, W] in [0, 1] to likelier ones of the same shape, not clamped.
SourcePrior = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CorrectionConfig:
    """Settings of iterative source error correction.

    Attributes:
        iterations: steps, each of which decodes, denoises and encodes once.
        prior_power: τ², variance of a sent symbol around the re-encoded one that is assumed, above
            0; sent symbols have a mean power of 1.
        strength: share of the prior's correction of images that is taken, in [0, 1].
    """

    iterations: int = 1
    prior_power: float = 8.0
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.iterations <= 1000:
            raise ValueError(f"iterations is {self.iterations}; it must be 0 to 1000")
        if not 0 < self.prior_power <= 1e6:
            raise ValueError(f"prior_power is {self.prior_power}; it must be above 0, up to 1e6")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength is {self.strength}; it must be 0 to 1")


class SourceErrorCorrection:
    """Receiver of Lee, Hu and Kim around any codec, at the receiver alone.

    An iteration decodes the estimate z of the sent symbols, lets the prior move the image, and
    encodes it again to symbols s. With noise of variance v around the equalised symbols y, the
    gradient (y - z)/v + (s - z)/τ² is zero at z = (τ²·y + v·s)/(τ² + v), which is the next
    estimate; the decoder is given the noise that is left there, v·τ²/(v + τ²). Lost symbols,
    of gain 0, are filled in by s. The final image is moved by the prior once more.

    Args:
        codec: of the transmitter, with both of its ends.
        prior: of images; None leaves them as they are decoded.
        config: settings.

    Attributes:
        codec, prior, config: as given; they may be replaced.
    """

    def __init__(
        self,
        codec: Codec,
        prior: SourcePrior | None = None,
        config: CorrectionConfig | None = None,
    ) -> None:
        self.codec, self.prior, self.config = codec, prior, config or CorrectionConfig()

    @torch.no_grad()
    def refine(
        self, initial: Tensor, received: Received, generator: Generators = None
    ) -> Reconstruction:
        """See `Refiner.refine`; nothing is sampled."""
        del generator
        image = initial
        for _ in range(self.config.iterations):
            image = self.codec.decode(self.corrected(image, received))
        return Reconstruction(self.moved(image), initial)

    def moved(self, images: Tensor) -> Tensor:
        """Let the prior move images [B, 3, H, W]; the result is in [0, 1]."""
        if self.prior is None:
            return images
        change = self.prior(images) - images
        return (images + self.config.strength * change).clamp(0, 1)

    def corrected(self, images: Tensor, received: Received) -> Received:
        """Combine received symbols with those that images [B, 3, H, W] would be sent as."""
        state, rate = received.state, received.nominal_rate
        sent = self.codec.encode(self.moved(images), state.at_transmitter, rate).values
        noise = state.zero_forced_noise_power.to(sent.device)
        power = self.config.prior_power
        kept = power / (power + noise)
        estimate = kept * received.equalised + (1 - kept) * sent
        # v·τ²/(v + τ²); one that was lost and is filled in errs by no more than its own power.
        left = torch.where(state.gain.abs() < SILENCE, min(power, 1.0), kept * noise)
        if state.gain.shape[1] == 1:
            gain = state.gain
            left = left[:, 0] * gain[:, 0].abs().square()
        else:
            gain, left = torch.ones_like(state.gain[:, :1]), left.mean(dim=1)
        known = ChannelState(gain, -10 * torch.log10(left.clamp(min=1e-20)), state.transmitter_csi)
        return replace(received, values=gain * estimate, state=known)

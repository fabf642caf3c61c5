"""Channel-likelihood guidance: images agree with the received symbols when they are sent again.

The receiver encodes its estimate x with the transmitter's codec and compares the symbols s(x) with
those that it received. As y = h·s + n with complex Gaussian noise n of power N0, -log p(y | x) is
Σ_k |y_k - h_k·s_k(x)|²/N0 up to a constant. DiffCom (Wang et al., arXiv 2406.07390) guides
diffusion by its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffjscc.protocols import Codec
from diffjscc.symbols import Received

# Step of the optimiser, in deviations of what it moves.
STEP = 0.15


@dataclass(frozen=True)
class LikelihoodConfig:
    """Settings of channel-likelihood guidance.

    Attributes:
        scale: weight ρ of the likelihood against the estimate that it corrects; 0 disables
            guidance. 1 takes the prior's own variance for that of the estimate.
        iterations: gradient steps on the latent in each sampling step, 0 for none.
        final_iterations: gradient steps on the final image's pixels, 0 for none. They correct what
            the VAE cannot express.
        pixel_deviation: standard deviation of the final image's error that is assumed, in [0, 1].
        blind: whether the noise power that weighs the distance is estimated from the received
            symbols, whose mean power is |h|² + N0, in place of the receiver's CSI.
    """

    scale: float = 0.0
    iterations: int = 3
    final_iterations: int = 10
    pixel_deviation: float = 0.03
    blind: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.scale <= 1e6:
            raise ValueError(f"likelihood guidance scale is {self.scale}; it must be 0 to 1e6")
        for name in ("iterations", "final_iterations"):
            if not 0 <= getattr(self, name) <= 1000:
                raise ValueError(f"likelihood {name} is {getattr(self, name)}; give 0 to 1000")
        if not 0 < self.pixel_deviation <= 1:
            raise ValueError(
                f"likelihood pixel_deviation is {self.pixel_deviation}; it must be above 0 and at "
                "most 1"
            )


def estimated_noise_power(received: Received) -> Tensor:
    """Estimate N0 [B] from the mean power |h|² + N0 of received symbols.

    Sent symbols have a mean power of 1 per image exactly, so that noise alone makes the estimate
    deviate, by about sqrt(2·|h|²·N0/K). N0 is at least 2·|h|²/K, where the deviation is as large.
    """
    signal = received.state.gain.abs().square().mean(dim=1)
    noise = received.values.abs().square().mean(dim=1) - signal
    return torch.maximum(noise, 2 * signal.clamp(min=1e-9) / received.channel_uses)


class ChannelLikelihood:
    """Likelihood of images, given the symbols that were received.

    Args:
        codec: of the transmitter; its encoder must be differentiable.
        received: symbols of B images.
        config: settings.
    """

    def __init__(self, codec: Codec, received: Received, config: LikelihoodConfig) -> None:
        self.codec, self.received, self.config = codec, received, config
        state = received.state
        self.noise_power = estimated_noise_power(received) if config.blind else state.noise_power

    def select(self, rows: list[int]) -> ChannelLikelihood:
        """Take the likelihood of some images; an index may occur several times."""
        return ChannelLikelihood(self.codec, self.received.select(rows), self.config)

    def distance(self, images: Tensor) -> Tensor:
        """Compute Σ_k |y_k - h_k·s_k|²/N0 of images [B, 3, H, W] in [0, 1], float32 [B].

        It is K on average for the images that were sent.

        Raises:
            ValueError: other symbols were received than the codec sends.
        """
        received, state = self.received, self.received.state
        sent = self.codec.encode(images, state.at_transmitter, received.nominal_rate).values
        if sent.shape != received.values.shape:
            raise ValueError(
                f"{type(self.codec).__name__} sends {sent.shape[1]} symbols, but "
                f"{received.channel_uses} were received; likelihood guidance goes with neither a "
                "rate policy, nor captions from the transmitter, nor feedback"
            )
        errors = torch.view_as_real(received.values - state.gain * sent)
        return errors.square().sum(dim=(1, 2)) / self.noise_power

    def improve(
        self, values: Tensor, render: Callable[[Tensor], Tensor], deviation: float, iterations: int
    ) -> Tensor:
        """Move values v towards the minimum of distance(render(v)) + |v - v₀|²/(ρ·σ²), by Adam.

        Args:
            values: v₀, latents or images [B, …].
            render: maps such values to images [B, 3, H, W] in about [0, 1].
            deviation: σ of the error of v₀ that is assumed.
            iterations: gradient steps.

        Raises:
            ValueError: the codec's encoder passes no gradient on.
        """
        if iterations == 0:
            return values
        start, moved = values.detach(), values.detach().clone().requires_grad_(True)
        optimiser = torch.optim.Adam([moved], lr=STEP * deviation)
        weight = 1 / (self.config.scale * deviation**2)
        with torch.enable_grad():
            for _ in range(iterations):
                distance = self.distance(render(moved).clamp(0, 1))
                if not distance.requires_grad:
                    raise ValueError(
                        f"{type(self.codec).__name__} passes no gradient on, which likelihood "
                        "guidance needs; leave --likelihood-guidance-scale out"
                    )
                kept = (moved - start).square().flatten(1).sum(dim=1)
                (moved.grad,) = torch.autograd.grad((distance + weight * kept).sum(), [moved])
                optimiser.step()
        return moved.detach()

    def improve_images(self, images: Tensor) -> Tensor:
        """Correct final images [B, 3, H, W] in [0, 1] themselves."""
        config = self.config
        improved = self.improve(
            images, lambda x: x, config.pixel_deviation, config.final_iterations
        )
        return improved.clamp(0, 1)

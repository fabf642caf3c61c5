"""Symbols on their way: sent, received, and the state of the channel between.

SNR has one meaning here. Symbols have unit mean power per image; the noise power per complex
symbol is N0 = 10^(-snr_db/10), half in each real part, so `snr_db` is Es/N0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffjscc.checks import check_flag

if TYPE_CHECKING:
    from typing import Self

# One generator for the whole batch, one per image, or torch's global one.
Generators = torch.Generator | Sequence[torch.Generator] | None

# Effective SNR of a channel that carries nothing, and the amplitude of a gain that counts as 0.
LOWEST_SNR_DB = -200.0
SILENCE = 1e-12


@dataclass(frozen=True)
class ChannelState:
    """One realisation of the channel per image, known before anything is sent.

    Attributes:
        gain: complex64 [B, 1] (block fading) or [B, K]; E|gain|² = 1. Ones for AWGN.
        mean_snr_db: float32 [B], Es/N0 in dB averaged over fades: 1/N0.
        transmitter_csi: whether the transmitter knows the gain; the receiver always does.
    """

    gain: Tensor
    mean_snr_db: Tensor
    transmitter_csi: bool = False

    def __post_init__(self) -> None:
        check_flag(self.transmitter_csi, "transmitter_csi")

    @property
    def noise_power(self) -> Tensor:
        """N0 = 10^(-mean_snr_db/10) per complex symbol, float32 [B]."""
        return torch.pow(10.0, -self.mean_snr_db / 10)

    @property
    def snr_db(self) -> Tensor:
        """Effective SNR in dB, float32 [B]; at least `LOWEST_SNR_DB`, also for gain 0.

        It is |h|²/N0 with one gain. With a gain per symbol it is w/(1 - w), where w is the mean of
        |h_k|²/(|h_k|² + N0): the SNR of one gain that would leave the error of MMSE equalisation.
        """
        power = self.gain.abs().square()
        if power.shape[1] == 1:
            effective = self.mean_snr_db + 10 * torch.log10(power[:, 0])
        else:
            snr = power.double() / self.noise_power[:, None].double()
            # 1 - w would be rounded to 0 at high SNRs.
            weight, error = (snr / (1 + snr)).mean(dim=1), (1 / (1 + snr)).mean(dim=1)
            effective = (10 * torch.log10(weight / error)).to(self.mean_snr_db.dtype)
        return effective.clamp(min=LOWEST_SNR_DB)

    @property
    def at_transmitter(self) -> ChannelState:
        """The part that the transmitter knows: without CSI the gain counts as 1.

        Its `snr_db` is the SNR that the transmitter encodes for; both ends know it.
        """
        unknown = torch.ones_like(self.gain[:, :1])
        return self if self.transmitter_csi else replace(self, gain=unknown)

    def zero_forced(self, values: Tensor) -> Tensor:
        """Divide symbols, complex64 [B, K], by their gains; 0 where the gain is 0."""
        silent = self.gain.abs() < SILENCE
        return torch.where(silent, 0, values / torch.where(silent, 1, self.gain))

    @property
    def zero_forced_noise_power(self) -> Tensor:
        """N0/|h|² of `zero_forced` symbols, float32 [B, 1] or [B, K]; finite where h is 0, too."""
        return self.noise_power[:, None] / self.gain.abs().clamp(min=SILENCE).square()

    def select(self, rows: slice | list[int]) -> ChannelState:
        """Take some of the images."""
        return replace(self, gain=self.gain[rows], mean_snr_db=self.mean_snr_db[rows])

    def span(self, uses: slice) -> ChannelState:
        """Take the state during some of the channel uses."""
        return self if self.gain.shape[1] == 1 else replace(self, gain=self.gain[:, uses])


@dataclass(frozen=True)
class SymbolBlock:
    """K complex numbers for each image of a batch of one size.

    Attributes:
        values: complex64 [B, K]; K is every channel use that an image costs, padding included.
        image_size: (H, W) of the images as the user gave them, in pixels.
        nominal_rate: the rate asked for, in channel uses per pixel (cpp).
        uses_by_kind: channel uses by purpose, such as "image" and "padding"; they add up to K.
            Empty where the codec does not say, or where images of the batch differ.
    """

    values: Tensor
    image_size: tuple[int, int]
    nominal_rate: Fraction
    uses_by_kind: Mapping[str, int] = field(default_factory=dict, kw_only=True)

    @property
    def channel_uses(self) -> int:
        """K, complex channel uses per image."""
        return self.values.shape[1]

    @property
    def rate(self) -> float:
        """True rate K/(H·W) in channel uses per pixel, on the image as the user gave it."""
        height, width = self.image_size
        return self.channel_uses / (height * width)


@dataclass(frozen=True)
class Symbols(SymbolBlock):
    """Transmitted symbols: `values` have unit mean power per image."""

    def repeat(self, times: int) -> Self:
        """Repeat each image's symbols, for several transmissions of one encoding."""
        return replace(self, values=self.values.repeat_interleave(times, 0))

    def received(self, values: Tensor, state: ChannelState) -> Received:
        """Received symbols of these: `values` complex64 [B, K] over a channel in `state`."""
        return Received(
            values, self.image_size, self.nominal_rate, state, uses_by_kind=self.uses_by_kind
        )


@dataclass(frozen=True)
class Received(SymbolBlock):
    """Received symbols: `values` = gain · sent + noise, not equalised, and the CSI.

    Attributes:
        state: gain and noise power per image, the channel state information.
        texture: texture map that the codec decoded from the symbols, float32
            [B, 1, ⌈H/16⌉, ⌈W/16⌉], see `layers.texture`; None before, and of codecs that convey
            none.
        feedback_uses: uses of the feedback link per image, beside the K of the channel.
        captions: text that the codec decoded of each image, None where it was lost; None before,
            and of codecs that convey none.
    """

    state: ChannelState
    texture: Tensor | None = None
    feedback_uses: int = 0
    captions: Sequence[str | None] | None = None

    def select(self, rows: slice | list[int]) -> Self:
        """Take some of the images."""
        texture = None if self.texture is None else self.texture[rows]
        captions = self.captions
        if captions is not None:
            kept = range(len(captions))[rows] if isinstance(rows, slice) else rows
            captions = [captions[i] for i in kept]
        return replace(
            self,
            values=self.values[rows],
            state=self.state.select(rows),
            texture=texture,
            captions=captions,
        )

    def span(self, uses: slice, rate: Fraction) -> Received:
        """Take some of the channel uses, as symbols of a nominal rate of their own."""
        values, state = self.values[:, uses], self.state.span(uses)
        return Received(values, self.image_size, rate, state)

    @property
    def equalised(self) -> Tensor:
        """Values / gain (zero forcing), complex64 [B, K]; noise power N0/|gain|² remains.

        Symbols whose gain is 0 are 0: nothing of them arrived.
        """
        return self.state.zero_forced(self.values)

    @property
    def snr_db(self) -> Tensor:
        """Effective SNR |h|²/N0 in dB, float32 [B]."""
        return self.state.snr_db

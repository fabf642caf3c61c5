"""WITT: the published transformer codecs WITT and SwinJSCC, as their authors' weights need it.

    symbols: x = z/√(mean |z|²) per image; z is the latent
    input of the decoder: √(mean |z|²)·(x + n)

The published decoders get the latent at its own power, and with an adaptive rate they know which
channels were sent; their code hands both on at no cost. Here both are side information, sent in
words of their own that count in K, see `side_information`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.codecs.reception import Receiver
from diffjscc.codecs.side_information import (
    BITS,
    USES,
    bits_to_words,
    receive_words,
    send_words,
    words_to_bits,
)
from diffjscc.codecs.swin import Decoder, Encoder, SwinJSCCConfig
from diffjscc.symbols import ChannelState, Received, Symbols

Adaptation = Literal["none", "snr", "rate", "snr+rate"]
OCTAVES = (-6.0, 6.0)  # range of the latent's amplitude √(mean |z|²), log2
_STEPS = 2**BITS - 1


@dataclass(frozen=True)
class WITTConfig(SwinJSCCConfig):
    """Architecture of `WITT`; the defaults are the published base size at R = 3/16 cpp, C = 96.

    Attributes:
        channels: see `SwinJSCCConfig`; with an adaptive rate the last width of the encoder.
        adaptation: conditioning of the networks: on the SNR, on the rate, on both, or none.
        rate_channels: channels that are sent at each rate, even numbers, ascending; empty unless
            the rate is adaptive.
    """

    channels: int = 96
    snr_range_db: tuple[float, float] = (1.0, 13.0)
    adaptation: Adaptation = "snr"
    rate_channels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adaptation not in get_args(Adaptation):
            known = ", ".join(get_args(Adaptation))
            raise ValueError(f"adaptation is {self.adaptation!r}; known: {known}")
        rates, most = self.rate_channels, self.encoder_widths[-1]
        if bool(rates) != self.rate_modulated:
            raise ValueError(
                f"rate_channels is {list(rates)} with adaptation {self.adaptation!r}; they go with "
                "an adaptive rate"
            )
        if any(c % 2 or not 2 <= c <= most for c in rates) or sorted(set(rates)) != list(rates):
            raise ValueError(
                f"rate_channels is {list(rates)}; give even numbers from 2 to {most}, each larger "
                "than the one before"
            )
        if rates and not self.channels == most == self.decoder_widths[0]:
            raise ValueError(
                f"channels is {self.channels}; with an adaptive rate it is the last width of the "
                f"encoder and the first of the decoder, {most} and {self.decoder_widths[0]}"
            )

    @property
    def snr_modulated(self) -> bool:
        """Return whether both ends are modulated by the SNR."""
        return self.adaptation in ("snr", "snr+rate")

    @property
    def rate_modulated(self) -> bool:
        """Return whether the encoder is modulated by the rate."""
        return self.adaptation in ("rate", "snr+rate")


class WITT(JointCodec):
    """WITT (Yang et al., arXiv 2211.00937) and SwinJSCC (arXiv 2308.09361) as published.

    Against `SwinJSCC`, the network of the released DiffJSCC: images are clamped where that has a
    sigmoid, the latent keeps its own power, and the rate may be adaptive.

    Args:
        config: the architecture.
        parts: which ends to build.
    """

    config: WITTConfig
    encoder: Encoder | None
    decoder: Decoder | None

    def __init__(self, config: WITTConfig, parts: Parts = "both") -> None:
        super().__init__(config, Encoder, Decoder, parts)
        self.stride = 2**config.stages
        self.padding = config.padding

    @property
    def receiver(self) -> Receiver:
        """See the config."""
        receiver: Receiver = self.config.receiver
        return receiver

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels sent at each rate, ascending."""
        return self.config.rate_channels or (self.config.channels,)

    @property
    def knows_fades(self) -> bool:
        """Return whether the decoder takes faded symbols as they are received."""
        return self.receiver != "equalised"

    @property
    def words(self) -> int:
        """Words of side information: the latent's power, and which channels are sent."""
        marks = self.config.channels if self.config.rate_modulated else 0
        return 1 + -(-marks // BITS)

    def analyse(self, images: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.analyse`; with an adaptive rate, channels that are not sent are 0."""
        assert self.encoder is not None
        sent = self.channels[rate_index] if self.config.rate_modulated else None
        latent: Tensor = self.encoder(self.padded(images).whole(), csi.snr_db, sent)
        return latent

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """See `JointCodec.encode`; words of side information come after the symbols."""
        symbols = super().encode(images, csi, rate)
        beside = USES * self.words
        kinds = dict(symbols.uses_by_kind)
        kinds["padding"] -= beside  # the base counts all that is beyond R·H·W as padding
        return replace(symbols, uses_by_kind={**kinds, "signalling": beside})

    def modulate(self, latent: Tensor, rate_index: int) -> Tensor:
        """See `JointCodec.modulate`."""
        words: list[Tensor] = []
        if self.config.rate_modulated:
            strength = latent.detach().abs().amax(dim=(2, 3))
            order = strength.argsort(dim=1, descending=True, stable=True)
            index = order[:, : self.channels[rate_index]].sort(dim=1).values
            marks = torch.zeros(latent.shape[:2], dtype=torch.bool, device=latent.device)
            words.append(bits_to_words(marks.scatter(1, index, True)))
            latent = latent.gather(1, index[..., None, None].expand(-1, -1, *latent.shape[2:]))
        power = 2 * latent.detach().float().square().mean(dim=(1, 2, 3))
        low, high = OCTAVES
        step = (power.sqrt().log2() - low) / (high - low) * _STEPS
        words.insert(0, step.nan_to_num(0).round().clamp(0, _STEPS).long()[:, None])
        symbols = super().modulate(latent, rate_index)
        return torch.cat((symbols, send_words(torch.cat(words, dim=1))), dim=1)

    def received_latent(self, received: Received) -> tuple[Tensor, ChannelState, int]:
        """See `JointCodec.received_latent`; the latent has the power that it was encoded with."""
        beside = USES * self.words
        if received.channel_uses <= beside:
            raise ValueError(
                f"{received.channel_uses} symbols received; {beside} of them are side information"
            )
        words = receive_words(received.equalised[:, -beside:])
        image = received.span(slice(-beside), received.nominal_rate)
        latent, csi, index = super().received_latent(image)
        low, high = OCTAVES
        amplitude = torch.exp2(low + words[:, 0] * (high - low) / _STEPS)
        latent = latent * amplitude[:, None, None, None]
        if self.config.rate_modulated:
            latent = self._in_place(latent, words_to_bits(words[:, 1:], self.config.channels))
        return latent, csi, index

    def synthesise(self, latent: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.synthesise`."""
        del rate_index
        assert self.decoder is not None
        images: Tensor = self.decoder(latent, csi.snr_db)
        return images

    def _in_place(self, latent: Tensor, marks: Tensor) -> Tensor:
        """Put received channels [B, C, h, w] where `marks` [B, width] has them; others are 0.

        A word that was decided wrongly marks too many channels or too few: the last are dropped or
        left out.
        """
        width, sent = marks.shape[1], latent.shape[1]
        order = marks.long().argsort(dim=1, descending=True, stable=True)[:, :sent]
        empty = latent.new_zeros(len(latent), width, *latent.shape[2:])
        return empty.scatter(1, order[..., None, None].expand_as(latent), latent)

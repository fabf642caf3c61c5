"""Upper bound of separate coding: a source codec over a capacity-achieving channel code."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

import torch
from torch import Tensor

from diffjscc.channels.power import normalise_power
from diffjscc.codecs.digital.link import (
    channel_uses,
    check_received,
    finest_within,
    mean_image,
)
from diffjscc.codecs.digital.source_codecs.source import SourceCodec
from diffjscc.codecs.joint import check_images
from diffjscc.protocols import InfeasibleError
from diffjscc.symbols import ChannelState, Received, Symbols


def capacity_bits(channel_uses: int, snr_db: float) -> int:
    """Compute the capacity of K complex AWGN channel uses in bits, ⌊K·log2(1 + Es/N0)⌋.

    Args:
        channel_uses: K, at least 0.
        snr_db: Es/N0 in dB, finite.

    Raises:
        ValueError: K is negative, or the SNR is not finite.
    """
    if channel_uses < 0:
        raise ValueError(f"channel_uses is {channel_uses}; it must be at least 0")
    if not math.isfinite(snr_db):
        raise ValueError(f"snr_db is {snr_db}; it must be finite")
    return math.floor(channel_uses * math.log2(1 + 10 ** (snr_db / 10)))


@dataclass(frozen=True)
class IdealSymbols(Symbols):
    """Symbols of a capacity-achieving code, with the bytes that they stand for.

    Attributes:
        payload: uint8 [B, N]; delivered without errors or not at all.
    """

    payload: Tensor = field(kw_only=True)

    def repeat(self, times: int) -> IdealSymbols:
        """See `Symbols.repeat`."""
        return replace(super().repeat(times), payload=self.payload.repeat_interleave(times, 0))

    def received(self, values: Tensor, state: ChannelState) -> IdealReceived:
        """See `Symbols.received`."""
        return IdealReceived(
            values,
            self.image_size,
            self.nominal_rate,
            state,
            uses_by_kind=self.uses_by_kind,
            payload=self.payload,
        )


@dataclass(frozen=True)
class IdealReceived(Received):
    """Received `IdealSymbols`."""

    payload: Tensor = field(kw_only=True)

    def select(self, rows: slice | list[int]) -> IdealReceived:
        """See `Received.select`."""
        return replace(super().select(rows), payload=self.payload[rows])


def _fits(state: ChannelState) -> Tensor:
    """Return whether the channel carries what the transmitter assumed, bool [B].

    With a gain per symbol its capacity is the mean of theirs: the code spans all symbols.
    """
    assumed = state.at_transmitter.snr_db
    if state.gain.shape[1] == 1:
        return state.snr_db >= assumed
    snr = state.gain.abs().square() / state.noise_power[:, None]
    return torch.log2(1 + snr).mean(dim=1) >= torch.log2(1 + torch.pow(10.0, assumed / 10))


@dataclass(frozen=True)
class CapacityCodec:
    """Error-free transmission of ⌊K·log2(1 + SNR)⌋ bits of an image file: an upper bound.

    No code of finite length achieves this. The symbols are Gaussian noise, as those of good codes;
    the bytes are passed as `IdealSymbols.payload`. On fading channels they are delivered if the
    effective SNR is at least the SNR that the transmitter assumed; otherwise it is an outage, and
    the image is the mean colour of photographs.

    Attributes:
        source: source codec.
        rates: nominal rates in cpp, ascending; any rate is possible.
    """

    source: SourceCodec
    rates: tuple[Fraction, ...]

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> IdealSymbols:
        """See `Codec.encode`; images are sent at the finest quality that fits.

        Raises:
            InfeasibleError: an image does not fit. If the transmitter knows the fade, this is an
                outage instead.
            ValueError: `images` are not valid.
        """
        check_images(images)
        height, width = images.shape[-2:]
        uses = channel_uses(rate, (height, width))
        sent = []
        for image, level in zip(images, csi.snr_db.tolist(), strict=True):
            carrier = f"{uses:,} channel uses at {level:g} dB"
            try:
                bits = capacity_bits(uses, level)
                sent.append(finest_within(self.source, image, bits, carrier))
            except InfeasibleError:
                if not csi.transmitter_csi:
                    raise
                sent.append(b"")
        longest = max(map(len, sent))
        padded = [list(data.ljust(longest, b"\0")) for data in sent]
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, uses, dtype=torch.complex64, generator=generator)
        return IdealSymbols(
            normalise_power(noise).expand(len(images), uses).to(images.device),
            (height, width),
            rate,
            uses_by_kind={"payload": uses},
            payload=torch.tensor(padded, dtype=torch.uint8, device=images.device),
        )

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`."""
        return self.attempt(received)[0]

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """See `DetectingCodec.attempt`.

        Raises:
            ValueError: symbols are not finite, of another number than the rate requires, or of
                another codec.
        """
        check_received(received, channel_uses(received.nominal_rate, received.image_size))
        if not isinstance(received, IdealReceived):
            raise ValueError(  # noqa: TRY004 - symbols of another codec, not a wrong call
                "these symbols have no payload: they were sent by another codec; CapacityCodec "
                "decodes only symbols of its own"
            )
        fits = _fits(received.state)
        outage = ~fits | (received.payload == 0).all(dim=1)
        images = []
        for data, lost in zip(received.payload, outage.tolist(), strict=True):
            if lost:
                image = mean_image(received.image_size, data.device)
            else:
                content = bytes(data.tolist())
                image = self.source.decode(content, received.image_size).to(data.device)
            images.append(image)
        return torch.stack(images), outage

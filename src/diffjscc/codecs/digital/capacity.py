"""Separate coding at its best: a source codec over a channel code that attains capacity."""

from __future__ import annotations

from dataclasses import dataclass
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
from diffjscc.codecs.digital.source_codecs.search import capacity_bits
from diffjscc.codecs.digital.source_codecs.source import SourceCodec
from diffjscc.codecs.joint import check_images
from diffjscc.scheme import InfeasibleError, Received, Symbols

_ROUNDING_DB = 1e-3  # of an SNR that both ends compute from the same state


@dataclass(frozen=True)
class CapacityCodec:
    """⌊K·log2(1 + SNR)⌋ bits of an image file, without an error: an upper bound, no system.

    No code of K channel uses attains this. What goes on the air is Gaussian noise, as good codes
    look; the bytes come along as `Symbols.delivered`. Over fading channels they arrive where the
    capacity of the fade is at least what the transmitter assumed; below is an outage, which
    delivers the mean colour of photographs.

    Attributes:
        source: image ↔ bytes.
        rates: nominal rates that it is asked for, in cpp, ascending; any will do.
    """

    source: SourceCodec
    rates: tuple[Fraction, ...]

    def encode(
        self, images: Tensor, snr_db: Tensor, rate: Fraction, gain: Tensor | None = None
    ) -> Symbols:
        """See `Codec.encode`; images are sent at the finest quality that fits.

        Raises:
            InfeasibleError: an image does not fit. Not where the transmitter knows the fade: that
                is an outage.
            ValueError: no images.
        """
        check_images(images)
        height, width = images.shape[-2:]
        uses = channel_uses(rate, (height, width))
        sent = []
        for image, level in zip(images, snr_db.tolist(), strict=True):
            carrier = f"{uses:,} channel uses at {level:g} dB"
            try:
                bits = capacity_bits(uses, level)
                sent.append(finest_within(self.source, image, bits, carrier))
            except InfeasibleError:
                if gain is None:
                    raise
                sent.append(b"")
        longest = max(map(len, sent))
        padded = [list(data.ljust(longest, b"\0")) for data in sent]
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, uses, dtype=torch.complex64, generator=generator)
        return Symbols(
            normalise_power(noise).expand(len(images), uses).to(images.device),
            (height, width),
            rate,
            uses_by_kind={"payload": uses},
            delivered=torch.tensor(padded, dtype=torch.uint8, device=images.device),
        )

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`."""
        return self.attempt(received)[0]

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """See `DetectingCodec.attempt`.

        Raises:
            ValueError: symbols are not finite, not as many as the rate says, or not of this codec.
        """
        check_received(received, channel_uses(received.nominal_rate, received.image_size))
        if received.delivered is None:
            raise ValueError(
                "these symbols carry no bytes beside them: another codec sent them, and only what "
                "CapacityCodec sent can be received by it"
            )
        fits = received.snr_db >= received.state.assumed_snr_db - _ROUNDING_DB
        outage = ~fits | (received.delivered == 0).all(dim=1)
        images = []
        for data, lost in zip(received.delivered, outage.tolist(), strict=True):
            if lost:
                image = mean_image(received.image_size, data.device)
            else:
                content = bytes(data.tolist())
                image = self.source.decode(content, received.image_size).to(data.device)
            images.append(image)
        return torch.stack(images), outage

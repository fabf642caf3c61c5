"""Separate source and channel coding: source codec, LDPC code and modulation as one codec."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from diffjscc.codecs.digital.frame import Frame
from diffjscc.codecs.digital.link import (
    channel_uses,
    check_received,
    finest_within,
    mean_image,
)
from diffjscc.codecs.digital.mcs import MCS, most_efficient, thresholds_db
from diffjscc.codecs.digital.source_codecs.source import SourceCodec, SourceError
from diffjscc.codecs.joint import check_images
from diffjscc.protocols import InfeasibleError
from diffjscc.symbols import ChannelState, Received, Symbols


@dataclass(frozen=True)
class SeparateCodec:
    """Digital transmission of image files: source codec, CRC, LDPC code, BPSK to 256-QAM.

    With neither `mcs` nor `quality` the link is adaptive: the SNR assumed by the transmitter, which
    the receiver knows as well, determines the MCS (see `mcs`); MCS and K determine the number of
    bits, and these the quality, the finest that fits. With a fixed MCS (BPSK, code rate 2/3) and a
    sweep over the quality, this is BPG+LDPC as in arXiv 2404.17736.

    An image that the receiver cannot decode is an outage; it is replaced by the mean colour of
    photographs. If the transmitter knows that a fade is too deep, it sends dummy symbols: an outage
    as well.

    Attributes:
        source: source codec.
        rates: nominal rates in cpp, ascending; any rate is possible.
        mcs: fixed MCS; None chooses it by the SNR.
        quality: fixed quality of the source codec; K follows from it, up to that of the nominal
            rate. None takes the finest quality that fits, and K = ⌈R·H·W⌉.
    """

    source: SourceCodec
    rates: tuple[Fraction, ...]
    mcs: MCS | None = None
    quality: int | None = None

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """See `Codec.encode`.

        Raises:
            InfeasibleError: no MCS works at the SNR, or an image does not fit. If the transmitter
                knows the fade, this is an outage instead.
            ValueError: `images` are not valid, or at a fixed quality they take different
                numbers of channel uses.
        """
        check_images(images)
        height, width = images.shape[-2:]
        most = channel_uses(rate, (height, width))
        values: list[Tensor] = []
        kinds: list[dict[str, int]] = []
        for image, level in zip(images, csi.snr_db.tolist(), strict=True):
            try:
                frame, data = self._compose(image, level, most)
                values.append(frame.modulate(data))
                kinds.append(frame.uses_by_kind)
            except InfeasibleError:
                if not csi.transmitter_csi:
                    raise
                values.append(torch.ones(most, dtype=torch.complex64))
                kinds.append({})
        lengths = sorted({len(part) for part in values})
        if len(lengths) > 1:
            raise ValueError(
                f"at quality {self.quality} these images take {lengths[0]} to {lengths[-1]} "
                "channel uses; send them one at a time"
            )
        spent = kinds[0] if all(kind == kinds[0] for kind in kinds) else {}
        sent = torch.stack(values).to(images.device)
        return Symbols(sent, (height, width), rate, uses_by_kind=spent)

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`."""
        return self.attempt(received)[0]

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """See `DetectingCodec.attempt`.

        Raises:
            ValueError: symbols are not finite, or of another number than the rate requires.
        """
        uses = channel_uses(received.nominal_rate, received.image_size)
        check_received(received, uses if self.quality is None else None)
        noise_power = received.state.zero_forced_noise_power
        assumed = received.state.at_transmitter.snr_db.tolist()
        images, outage = [], []
        for values, power, level in zip(received.equalised, noise_power, assumed, strict=True):
            image = self._receive(values, power, level, received.image_size)
            outage.append(image is None)
            missing = mean_image(received.image_size, values.device)
            images.append(missing if image is None else image.to(values.device))
        return torch.stack(images), torch.tensor(outage, device=received.values.device)

    def _compose(self, image: Tensor, snr_db: float, most: int) -> tuple[Frame, bytes]:
        """Encode an image [3, H, W] and choose its frame of at most `most` channel uses."""
        mcs = self._mcs_at(snr_db)
        if self.quality is None:
            frame = Frame(mcs, most)
            carrier = f"{most:,} channel uses of {mcs.name}"
            return frame, finest_within(self.source, image, 8 * frame.data_bytes, carrier)
        data = self.source.encode(image, self.quality)
        uses = Frame.needed(mcs, len(data))
        if uses > most:
            raise InfeasibleError(
                f"{self.source.name} at quality {self.quality} takes {uses:,} channel uses of "
                f"{mcs.name}, but the rate allows {most:,}: raise the rate or lower the quality"
            )
        return Frame(mcs, uses), data

    def _receive(
        self, values: Tensor, noise_power: Tensor, snr_db: float, size: tuple[int, int]
    ) -> Tensor | None:
        """Decode equalised symbols [K] to an image; None for an outage."""
        try:
            frame = Frame(self._mcs_at(snr_db), len(values))
        except InfeasibleError:
            return None
        data = frame.demodulate(values, noise_power)
        if data is None:
            return None
        try:
            return self.source.decode(data, size)
        except SourceError:  # one in 16 million damaged frames passes the 24-bit CRC
            return None

    def _mcs_at(self, snr_db: float) -> MCS:
        if self.mcs is not None:
            return self.mcs
        mcs = most_efficient(snr_db)
        if mcs is None:
            needed = thresholds_db()
            robust = min(needed, key=lambda name: needed[name])
            raise InfeasibleError(
                f"no modulation and code rate works at {snr_db:g} dB; the most robust, {robust}, "
                f"needs {needed[robust]:g} dB: raise the SNR"
            )
        return mcs

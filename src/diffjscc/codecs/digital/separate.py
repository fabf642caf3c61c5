"""Separate source and channel coding: a source codec, LDPC, a constellation, as one codec."""

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
from diffjscc.scheme import ChannelState, InfeasibleError, Received, Symbols


@dataclass(frozen=True)
class SeparateCodec:
    """Sends the bits of an image file: source codec, CRC, LDPC of IEEE 802.11n, BPSK to 256-QAM.

    With neither `mcs` nor `quality` the link adapts. The SNR that the transmitter assumes, which
    the receiver knows as well, gives the MCS (see `mcs`), that and K the number of bits, and these
    the quality: the finest that fits. With an MCS that is held fixed, here 2/3 and BPSK, and the
    quality swept, this is BPG+LDPC as in arXiv 2404.17736.

    What the receiver cannot decode is an outage: it delivers the mean colour of photographs. Where
    the transmitter knows that a fade is too deep, it sends nothing of use, which is an outage too.

    Attributes:
        source: image ↔ bytes.
        rates: nominal rates that it is asked for, in cpp, ascending; any will do.
        mcs: the only one; None takes what the SNR allows.
        quality: of the source codec. K is what that takes, and the nominal rate the most that it
            may be. None takes the finest that fits, and K = ⌈R·H·W⌉.
    """

    source: SourceCodec
    rates: tuple[Fraction, ...]
    mcs: MCS | None = None
    quality: int | None = None

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """See `Codec.encode`.

        Raises:
            InfeasibleError: no MCS works at the SNR, or an image does not fit. Not where the
                transmitter knows the fade: that is an outage.
            ValueError: no images, or of a fixed quality several that take different numbers of
                channel uses.
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
            ValueError: symbols are not finite, or not as many as the rate says.
        """
        uses = channel_uses(received.nominal_rate, received.image_size)
        check_received(received, uses if self.quality is None else None)
        noise_power = received.state.noise_power[:, None] / received.state.gain.abs().square()
        assumed = received.state.at_transmitter.snr_db.tolist()
        images, outage = [], []
        for values, power, level in zip(received.equalised, noise_power, assumed, strict=True):
            image = self._receive(values, power, level, received.image_size)
            outage.append(image is None)
            missing = mean_image(received.image_size, values.device)
            images.append(missing if image is None else image.to(values.device))
        return torch.stack(images), torch.tensor(outage, device=received.values.device)

    def _compose(self, image: Tensor, snr_db: float, most: int) -> tuple[Frame, bytes]:
        """What is sent of an image [3, H, W], and in which frame of at most so many uses."""
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
                f"{mcs.name}, but the rate allows {most:,}: raise it, or take a coarser quality"
            )
        return Frame(mcs, uses), data

    def _receive(
        self, values: Tensor, noise_power: Tensor, snr_db: float, size: tuple[int, int]
    ) -> Tensor | None:
        """The image in equalised values [K], or None where it got lost."""
        try:
            frame = Frame(self._mcs_at(snr_db), len(values))
        except InfeasibleError:
            return None
        data = frame.demodulate(values, noise_power)
        if data is None:
            return None
        try:
            return self.source.decode(data, size)
        except SourceError:  # the CRC has 24 bits: one in 16 million frames passes it by chance
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

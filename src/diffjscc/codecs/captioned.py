"""A codec that sends a caption of each image before its symbols, for a prior that reads text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from diffjscc.codecs.digital.captions import demodulate_caption, modulate_caption
from diffjscc.codecs.joint import JointCodec
from diffjscc.protocols import TextureCodec
from diffjscc.scheme import device_of, move
from diffjscc.symbols import ChannelState, Received, Symbols

# Maps images [B, 3, H, W] in [0, 1] to one text each.
Describe = Callable[[Tensor], list[str]]


@dataclass(frozen=True)
class CaptionedCodec:
    """Joint source-channel coding of images, and their captions in a strong digital code.

    K = L + K(R): the L symbols of the caption come first, see `digital.captions`, and count. Both
    ends know K, as from the header of a frame, and therefore L.

    Attributes:
        codec: of the images.
        describe: captions the originals, at the transmitter.
    """

    codec: JointCodec
    describe: Describe

    @property
    def rates(self) -> tuple[Fraction, ...]:
        """Nominal rates of the images alone, in cpp, ascending."""
        return self.codec.rates

    @property
    def device(self) -> torch.device:
        """Device of the codec."""
        return device_of(self.codec)

    def to(self, device: torch.device | str) -> CaptionedCodec:
        """Move the codec to a device, in place."""
        move(self.codec, device)
        return self

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """See `Codec.encode`.

        Raises:
            ValueError: `images` are not valid, a caption is too long, or captions take different
                numbers of channel uses.
        """
        sent = self.codec.encode(images, csi, rate)
        assumed = csi.snr_db.tolist()
        captions = [
            modulate_caption(text, snr_db)
            for text, snr_db in zip(self.describe(images), assumed, strict=True)
        ]
        lengths = sorted({len(caption) for caption in captions})
        if len(lengths) > 1:
            raise ValueError(
                f"captions of these images take {lengths[0]} to {lengths[-1]} channel uses; send "
                "them one at a time"
            )
        joined = torch.stack(captions).to(sent.values.device)
        return Symbols(
            torch.cat((joined, sent.values), dim=1),
            sent.image_size,
            rate,
            uses_by_kind={"caption": lengths[0], **sent.uses_by_kind},
        )

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`."""
        return self.attempt(received)[0]

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """See `DetectingCodec.attempt`."""
        return self.codec.attempt(self._image(received))

    def attempt_with_texture(self, received: Received) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `TextureCodec.attempt_with_texture`; no map where the codec conveys none."""
        image = self._image(received)
        if isinstance(self.codec, TextureCodec):
            return self.codec.attempt_with_texture(image)
        return *self.codec.attempt(image), None

    def captions(self, received: Received) -> list[str | None]:
        """See `CaptionCodec.captions`."""
        length = self._caption_length(received)
        caption = received.span(slice(length), received.nominal_rate)
        power = caption.state.zero_forced_noise_power
        return [
            demodulate_caption(values, noise)
            for values, noise in zip(caption.equalised, power, strict=True)
        ]

    def _image(self, received: Received) -> Received:
        length = self._caption_length(received)
        return received.span(slice(length, None), received.nominal_rate)

    def _caption_length(self, received: Received) -> int:
        """Return L; raises ValueError where there are fewer symbols than an image takes."""
        needed = self.codec.channel_uses(received.nominal_rate, received.image_size)
        if received.channel_uses < needed:
            raise ValueError(
                f"{received.channel_uses} symbols received, but the image alone is {needed} at "
                f"rate {received.nominal_rate}"
            )
        return received.channel_uses - needed

"""The one path: image -> symbols -> received symbols -> initial image -> final image.

Everything else in the package trains, measures, compares or shows `Scheme`. What is on the way
between transmitter and receiver, and the one meaning of SNR, stand in `symbols`; its parts in
`protocols`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from diffjscc.arrays import ImageInput, as_images
from diffjscc.checks import (
    check_count,
    check_decoded,
    check_levels,
    check_received,
    check_symbols,
    check_texture,
    check_uses,
)
from diffjscc.protocols import (
    AveragingCodec,
    CaptionCodec,
    Channel,
    Codec,
    DetectingCodec,
    FeedbackCodec,
    LevelsRefiner,
    Reconstruction,
    Refiner,
    TextureCodec,
)
from diffjscc.rate import Rate, check_offered, parse_rate
from diffjscc.rounds import exchange
from diffjscc.symbols import ChannelState, Generators, Received, Symbols

if TYPE_CHECKING:
    from typing import Self


@runtime_checkable
class _Movable(Protocol):
    """Networks that compute on a device of the user's choice."""

    def to(self, device: torch.device | str) -> object:
        """Move them, in place."""
        ...


def device_of(codec: Codec) -> torch.device:
    """Device of a codec: that of its first parameter, or its `device`, or the CPU."""
    if isinstance(codec, nn.Module):
        for parameter in codec.parameters():
            return parameter.device
    return torch.device(getattr(codec, "device", "cpu"))


def move(part: Codec | Refiner | None, device: torch.device | str) -> None:
    """Move the networks of a codec or refiner to a device, in place, if it has any."""
    if isinstance(part, _Movable):
        part.to(device)


def as_batch(value: float | Tensor, batch: int, device: torch.device | str, name: str) -> Tensor:
    """Expand a number, or one number per image, to float32 [B]; errors name `name`."""
    flag = isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool)
    if flag or isinstance(value, complex | str) or value is None:
        raise ValueError(f"{name} is {value!r}; give a number, or a tensor with one for each image")
    tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
    if tensor.ndim > 1 or (tensor.ndim == 1 and len(tensor) not in (1, batch)):
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; give one number, or one for each of the "
            f"{batch} images"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} is {value}; it must be finite")
    return tensor.expand(batch)


@dataclass(frozen=True, init=False, repr=False)
class Scheme:
    """A codec at one of its rates, with a refiner or without.

    Attributes:
        codec: image ↔ symbols.
        rate: nominal rate in channel uses per pixel; one of `codec.rates`. The constructor takes
            it in any form: "1/128", 0.0078125 or a Fraction.
        refiner: makes the final image; None gives the codec alone.
        provenance: what the images depend on beside the code: weights and their hash, or the
            settings of a digital link. Recorded with every measurement.
    """

    codec: Codec
    rate: Fraction
    refiner: Refiner | None
    provenance: str

    def __init__(
        self, codec: Codec, rate: Rate, refiner: Refiner | None = None, provenance: str = ""
    ) -> None:
        wanted = parse_rate(rate)
        check_offered(wanted, codec.rates, f"({provenance})" if provenance else "")
        fields = (("codec", codec), ("rate", wanted), ("refiner", refiner))
        for name, value in (*fields, ("provenance", provenance)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        parts = [type(self.codec).__name__, f"R = {self.rate}"]
        parts += [] if self.refiner is None else [type(self.refiner).__name__]
        parts += [self.provenance] if self.provenance else []
        return f"{type(self).__name__}({', '.join(parts)}, on {self.device})"

    @property
    def device(self) -> torch.device:
        """Device of the codec, see `device_of`."""
        return device_of(self.codec)

    def to(self, device: torch.device | str) -> Self:
        """Move the networks of codec and refiner to a device, in place, as torch modules do."""
        move(self.codec, device)
        move(self.refiner, device)
        return self

    def at_rate(self, rate: Rate) -> Self:
        """Return the same scheme at another of the codec's rates; networks are shared."""
        return replace(self, rate=parse_rate(rate))

    def encode(
        self, images: ImageInput, snr_db: float | Tensor, gain: Tensor | None = None
    ) -> Symbols:
        """Encode images, for a channel of one's own.

        Args:
            images: see `as_images`; any H and W.
            snr_db: SNR in dB that the transmitter assumes, one number or [B].
            gain: complex [B, 1] or [B, K], the fade, where the transmitter knows it; `snr_db` is
                then the mean over fades.
        """
        batch = as_images(images, self.device)
        mean = as_batch(snr_db, len(batch), batch.device, "snr_db")
        known = gain is not None
        if gain is None:
            gain = torch.ones(len(batch), 1, dtype=torch.complex64, device=batch.device)
        return self._encode(batch, ChannelState(gain, mean, transmitter_csi=known))

    def send(
        self, images: ImageInput, channel: Channel, generator: Generators = None, repeats: int = 1
    ) -> Received:
        """Encode images and send them over a channel.

        Args:
            images: see `as_images`.
            channel: what to send over; with its transmitter CSI the encoder knows the fade.
            generator: drives fades and noise: one, or one per transmission.
            repeats: transmissions N per image.

        Returns:
            B·N transmissions, an image's one after the other.

        Raises:
            InfeasibleError: see there; of digital codecs.
            ValueError: images, symbols or channel states that break the rules of this module.
        """
        check_count(repeats, "repeats")
        batch = as_images(images, self.device)
        state = channel.sample_state(len(batch) * repeats, generator, batch.device)
        if isinstance(self.codec, FeedbackCodec):
            return self._exchange(batch.repeat_interleave(repeats, 0), channel, generator, state)
        if channel.transmitter_csi:
            symbols = self._encode(batch.repeat_interleave(repeats, 0), state)
        else:
            first = slice(None, None, repeats)  # an image's transmissions share their encoding
            symbols = self._encode(batch, state.select(first).at_transmitter).repeat(repeats)
        return _sent(channel, symbols, generator, state)

    def decode(self, received: Received, generator: Generators = None) -> Reconstruction:
        """Decode received symbols to images; `generator` drives the refiner's sampling.

        Raises:
            ValueError: codec or refiner gave images of another shape, outside [0, 1] or not finite.
        """
        return self.refine(*self.attempt(received), generator)

    def refine(
        self,
        initial: Tensor,
        received: Received,
        outage: Tensor | None = None,
        generator: Generators = None,
        levels: bool = False,
    ) -> Reconstruction:
        """Refine initial images, if there is a refiner; arguments as `attempt` returns them.

        With `levels`, refiners that can give 8-bit levels (uint8), see `LevelsRefiner`.

        Raises:
            ValueError: the refiner gave images of another shape, outside [0, 1] or not finite.
        """
        lost = outage is not None and bool(outage.all())
        if self.refiner is None or lost:
            return Reconstruction(image=initial, initial=initial, outage=outage)
        some_lost = outage is not None and bool(outage.any())
        name = type(self.refiner).__name__
        if levels and not some_lost and isinstance(self.refiner, LevelsRefiner):
            refined = self.refiner.refine_to_levels(initial, received, generator)
            check_levels(refined.image, tuple(initial.shape), name)
            return replace(refined, outage=outage)
        refined = self.refiner.refine(initial, received, generator)
        check_decoded(refined.image, tuple(initial.shape), name)
        if outage is None or not some_lost:
            return replace(refined, outage=outage)
        # What a refiner makes of a placeholder would be invented.
        final = torch.where(outage.to(initial.device)[:, None, None, None], initial, refined.image)
        return replace(refined, image=final, outage=outage)

    def attempt(self, received: Received) -> tuple[Tensor, Received, Tensor | None]:
        """Decode received symbols to the initial images, without the refiner.

        Returns:
            The images; what was received, with the texture map and captions that the codec conveys;
            and whether each image is an outage, see `Reconstruction.outage`.

        Raises:
            ValueError: the codec gave images of another shape, outside [0, 1] or not finite.
        """
        outage, texture = None, None
        if isinstance(self.codec, TextureCodec):
            initial, outage, texture = self.codec.attempt_with_texture(received)
        elif isinstance(self.codec, DetectingCodec):
            initial, outage = self.codec.attempt(received)
        else:
            initial = self.codec.decode(received)
        batch, name = len(received.values), type(self.codec).__name__
        check_decoded(initial, (batch, 3, *received.image_size), name)
        if texture is not None:
            check_texture(texture, (batch, *received.image_size), name)
        captions = None
        if isinstance(self.codec, CaptionCodec):
            captions = self.codec.captions(received)
        return initial, replace(received, texture=texture, captions=captions), outage

    def __call__(
        self, images: ImageInput, channel: Channel, generator: Generators = None
    ) -> Reconstruction:
        """`send` and `decode` in one."""
        return self.decode(self.send(images, channel, generator), generator)

    def _encode(self, images: Tensor, csi: ChannelState) -> Symbols:
        return self._checked(self.codec.encode(images, csi, self.rate), images)

    def _exchange(
        self, images: Tensor, channel: Channel, generator: Generators, state: ChannelState
    ) -> Received:
        """Send images in several rounds, see `exchange`."""
        assert isinstance(self.codec, FeedbackCodec)

        def send(symbols: Symbols, generator: Generators, state: ChannelState | None) -> Received:
            return _sent(channel, self._checked(symbols, images), generator, state)

        codec = self.codec
        sender = codec.sender(images, state.at_transmitter, self.rate)
        received = exchange(sender, codec.rounds, send, codec.link, state, generator)
        name = type(codec).__name__
        check_uses(received.channel_uses, received.uses_by_kind, images, self.rate, name)
        return received

    def _checked(self, symbols: Symbols, images: Tensor) -> Symbols:
        name = type(self.codec).__name__
        most = self.codec.highest_rate if isinstance(self.codec, AveragingCodec) else self.rate
        check_symbols(symbols.values, symbols.uses_by_kind, images, most, name)
        return symbols


def _sent(
    channel: Channel, symbols: Symbols, generator: Generators, state: ChannelState | None
) -> Received:
    """Send symbols, and check what the channel gives."""
    received = channel(symbols, generator, state)
    state, name = received.state, type(channel).__name__
    check_received(received.values, state.gain, state.mean_snr_db, symbols.values, name)
    return received

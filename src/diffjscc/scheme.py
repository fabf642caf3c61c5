"""The one path: image -> symbols -> received symbols -> initial image -> final image.

Everything else in the package trains, measures, compares or shows `Scheme`.

SNR has one meaning here. Symbols have unit mean power per image; the noise power per complex
symbol is N0 = 10^(-snr_db/10), half in each real part, so `snr_db` is Es/N0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

# One generator for the whole batch, one per image, or torch's global one.
Generators = torch.Generator | Sequence[torch.Generator] | None


@dataclass(frozen=True)
class SymbolBlock:
    """K complex numbers for each image of a batch of one size.

    Attributes:
        values: complex64 [B, K]; K is every channel use that an image costs, padding included.
        image_size: (H, W) of the images as the user gave them, in pixels.
        nominal_rate: the rate asked for, in channel uses per pixel (cpp).
        uses_by_kind: what the K channel uses are spent on, such as "image" and "padding"; empty
            where the codec does not say, or where images of the batch differ.
        delivered: uint8 [B, N], bytes that an ideal channel code delivers whatever happens to the
            values; None for all that is real, which depends on the values alone.
    """

    values: Tensor
    image_size: tuple[int, int]
    nominal_rate: Fraction
    uses_by_kind: Mapping[str, int] = field(default_factory=dict, kw_only=True)
    delivered: Tensor | None = field(default=None, kw_only=True)

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
    """What the transmitter sends: `values` have unit mean power per image."""


@dataclass(frozen=True)
class ChannelState:
    """One realisation of the channel per image, before anything is sent.

    Attributes:
        gain: complex64 [B, 1] (block fading) or [B, K]; E|gain|² = 1. Ones for AWGN.
        noise_power: float32 [B], N0 per complex symbol.
        transmitter_csi: whether the transmitter knows the gain; the receiver knows if it does.
    """

    gain: Tensor
    noise_power: Tensor
    transmitter_csi: bool = False

    @property
    def snr_db(self) -> Tensor:
        """Effective SNR |h|²/N0 in dB, float32 [B]: what the receiver measures."""
        power = self.gain.abs().square().mean(dim=1)
        return 10 * torch.log10(power / self.noise_power)

    @property
    def mean_snr_db(self) -> Tensor:
        """SNR 1/N0 in dB averaged over fades, float32 [B]: all that is known without CSI."""
        return -10 * torch.log10(self.noise_power)

    @property
    def assumed_snr_db(self) -> Tensor:
        """SNR in dB that the transmitter encodes for, float32 [B]; both ends know it."""
        return self.snr_db if self.transmitter_csi else self.mean_snr_db


@dataclass(frozen=True)
class Received(SymbolBlock):
    """What the receiver has: `values` = gain · sent + noise, not equalised, and the CSI.

    Attributes:
        state: gain and noise power per image, the channel state information.
    """

    state: ChannelState

    def select(self, rows: slice) -> Received:
        """What was received of some of the images."""
        gain, noise_power = self.state.gain[rows], self.state.noise_power[rows]
        return replace(
            self,
            values=self.values[rows],
            delivered=None if self.delivered is None else self.delivered[rows],
            state=replace(self.state, gain=gain, noise_power=noise_power),
        )

    @property
    def equalised(self) -> Tensor:
        """Values / gain (zero forcing), complex64 [B, K]; noise power N0/|gain|² remains."""
        return self.values / self.state.gain

    @property
    def snr_db(self) -> Tensor:
        """Effective SNR |h|²/N0 in dB, float32 [B]."""
        return self.state.snr_db


@dataclass(frozen=True)
class Reconstruction:
    """The receiver's images.

    Attributes:
        image: final image, float32 [B, 3, H, W] in [0, 1].
        initial: the codec's own reconstruction, same shape; `image` itself without a refiner.
        caption: what the refiner was told the images show, one text per image, or None.
        outage: bool [B], whether the codec could not decode and gave an image that tells nothing;
            None where a codec cannot know.
    """

    image: Tensor
    initial: Tensor
    caption: list[str] | None = None
    outage: Tensor | None = None


class InfeasibleError(ValueError):
    """A codec has nothing to send for an image at this rate and SNR; says what it would need."""


class Codec(Protocol):
    """Image to symbols and back; a digital link is a codec like any other."""

    @property
    def rates(self) -> tuple[Fraction, ...]:
        """Nominal rates this codec offers, in cpp, ascending."""
        ...

    def encode(
        self, images: Tensor, snr_db: Tensor, rate: Fraction, gain: Tensor | None = None
    ) -> Symbols:
        """Images [B, 3, H, W] in [0, 1] to symbols, given the SNR [B] the transmitter knows.

        `gain`, complex [B, 1], is given where the transmitter knows the fade too.
        """
        ...

    def decode(self, received: Received) -> Tensor:
        """Received symbols to the initial images, float32 [B, 3, H, W] in [0, 1]."""
        ...


@runtime_checkable
class DetectingCodec(Codec, Protocol):
    """A codec that knows what it could not decode, as digital links do."""

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """As `decode`, and whether each image is an outage, bool [B]."""
        ...


class Channel(Protocol):
    """Symbols to received symbols."""

    @property
    def transmitter_csi(self) -> bool:
        """Whether the transmitter knows each image's gain before it encodes."""
        ...

    def draw(
        self, batch: int, generator: Generators = None, device: torch.device | str = "cpu"
    ) -> ChannelState:
        """One realisation for `batch` images."""
        ...

    def __call__(
        self, symbols: Symbols, generator: Generators = None, state: ChannelState | None = None
    ) -> Received:
        """Send `symbols`; draws the state unless one is given."""
        ...


class Refiner(Protocol):
    """Initial image to final image, at the receiver."""

    def refine(
        self, initial: Tensor, received: Received, generator: Generators = None
    ) -> Reconstruction:
        """Initial images [B, 3, H, W] in [0, 1], and what was received, to the final ones."""
        ...


def as_batch(value: float | Tensor, batch: int, device: torch.device | str, name: str) -> Tensor:
    """A number, or one number per image, as float32 [B]; an error names `name` and the value."""
    tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
    if tensor.ndim > 1 or (tensor.ndim == 1 and len(tensor) not in (1, batch)):
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; give one number, or one for each of the "
            f"{batch} images"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} is {value}; it must be finite")
    return tensor.expand(batch)


@dataclass(frozen=True)
class Scheme:
    """A codec at one of its rates, with a refiner or without.

    Attributes:
        codec: image ↔ symbols.
        rate: nominal rate in channel uses per pixel; one of `codec.rates`.
        refiner: what paints the final image; None gives the codec alone.
    """

    codec: Codec
    rate: Fraction
    refiner: Refiner | None = None

    def __post_init__(self) -> None:
        if self.rate not in self.codec.rates:
            offered = ", ".join(str(rate) for rate in self.codec.rates)
            raise ValueError(f"rate {self.rate} is not one of {offered}")

    def encode(self, images: Tensor, snr_db: float | Tensor, gain: Tensor | None = None) -> Symbols:
        """Images to symbols.

        Args:
            images: float [B, 3, H, W] in [0, 1]; any H and W.
            snr_db: SNR in dB that the transmitter assumes, one number or [B].
            gain: complex [B, 1], the fade, where the transmitter knows it.
        """
        snr_db = as_batch(snr_db, len(images), images.device, "snr_db")
        return self.codec.encode(images, snr_db, self.rate, gain)

    def send(
        self, images: Tensor, channel: Channel, generator: Generators = None, repeats: int = 1
    ) -> Received:
        """Encode images and send them; with transmitter CSI the encoder is told the fade.

        Args:
            images: float [B, 3, H, W] in [0, 1].
            channel: what to send over.
            generator: drives fades and noise: one, or one per transmission.
            repeats: transmissions N per image.

        Returns:
            B·N transmissions, an image's one after the other.

        Raises:
            InfeasibleError: see there; of digital codecs.
        """
        state = channel.draw(len(images) * repeats, generator, images.device)
        if channel.transmitter_csi:
            images = images.repeat_interleave(repeats, 0)
            symbols = self.encode(images, state.snr_db, state.gain)
        else:
            symbols = self.encode(images, state.mean_snr_db[::repeats])
            values, delivered = symbols.values.repeat_interleave(repeats, 0), symbols.delivered
            if delivered is not None:
                delivered = delivered.repeat_interleave(repeats, 0)
            symbols = replace(symbols, values=values, delivered=delivered)
        return channel(symbols, generator, state)

    def decode(self, received: Received, generator: Generators = None) -> Reconstruction:
        """Received symbols to images; `generator` drives the refiner's sampling."""
        outage = None
        if isinstance(self.codec, DetectingCodec):
            initial, outage = self.codec.attempt(received)
        else:
            initial = self.codec.decode(received)
        if self.refiner is None:
            return Reconstruction(image=initial, initial=initial, outage=outage)
        return replace(self.refiner.refine(initial, received, generator), outage=outage)

    def __call__(
        self, images: Tensor, channel: Channel, generator: Generators = None
    ) -> Reconstruction:
        """`send` and `decode` in one."""
        return self.decode(self.send(images, channel, generator), generator)

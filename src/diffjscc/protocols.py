"""Protocols of the parts of a scheme: codecs, channels, refiners.

What is on the way between transmitter and receiver stands in `symbols`, and the path in `scheme`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from diffjscc.arrays import to_pil
from diffjscc.rounds import FeedBack, Sender
from diffjscc.symbols import ChannelState, Generators, Received, Symbols

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Reconstruction:
    """The receiver's images.

    Attributes:
        image: final image, float32 [B, 3, H, W] in [0, 1].
        initial: the codec's own reconstruction, same shape; `image` itself without a refiner.
        caption: text that the refiner was conditioned on, one per image, or None.
        outage: bool [B], whether the codec could not decode and gave a placeholder image, which is
            the final one, too; None where a codec cannot detect that.
    """

    image: Tensor
    initial: Tensor
    caption: list[str] | None = None
    outage: Tensor | None = None

    def to_pil(self) -> list[Image.Image]:
        """Convert the final images to 8-bit RGB PIL images."""
        return to_pil(self.image)


class InfeasibleError(ValueError):
    """A codec has nothing to send for an image at this rate and SNR; says what it would need."""


class Codec(Protocol):
    """Image to symbols and back; a digital link is a codec like any other."""

    @property
    def rates(self) -> tuple[Fraction, ...]:
        """Nominal rates that this codec offers, in cpp, ascending."""
        ...

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """Encode images.

        Args:
            images: float32 [B, 3, H, W] in [0, 1].
            csi: the transmitter's knowledge of the channel, see `ChannelState.at_transmitter`:
                encode for `csi.snr_db`.
            rate: one of `rates`.

        Returns:
            Symbols of unit mean power per image.
        """
        ...

    def decode(self, received: Received) -> Tensor:
        """Decode received symbols to the initial images, float32 [B, 3, H, W] in [0, 1]."""
        ...


@runtime_checkable
class DetectingCodec(Codec, Protocol):
    """A codec that detects when nothing of an image was received: digital links, neural codecs."""

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """Decode as `decode` does; also return whether each image is an outage, bool [B].

        An outage's image is a placeholder; no refiner refines it.
        """
        ...


@runtime_checkable
class TextureCodec(DetectingCodec, Protocol):
    """A codec whose symbols may also convey a texture map, see `layers.texture`."""

    def attempt_with_texture(self, received: Received) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decode as `attempt` does; also return the map [B, 1, ⌈H/16⌉, ⌈W/16⌉], or None."""
        ...


@runtime_checkable
class FeedbackCodec(Codec, Protocol):
    """A codec of several rounds, between which the transmitter learns what was received.

    `encode` gives the symbols of the first round, `decode` takes those of all, see `rounds.joined`.
    """

    @property
    def rounds(self) -> int:
        """Rounds in all."""
        ...

    @property
    def link(self) -> FeedBack:
        """The link back: received symbols to what the transmitter knows of them."""
        ...

    def sender(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Sender:
        """Encode round by round; arguments as of `encode`, which gives the first."""
        ...


@runtime_checkable
class CaptionCodec(Codec, Protocol):
    """A codec whose symbols also convey a caption of each image."""

    def captions(self, received: Received) -> list[str | None]:
        """Decode the captions; None for each that was lost."""
        ...


@runtime_checkable
class AveragingCodec(Codec, Protocol):
    """A codec whose nominal rate is a mean over images: some get more channel uses, some fewer."""

    @property
    def highest_rate(self) -> Fraction:
        """Highest rate that it gives an image, in cpp."""
        ...


class Channel(Protocol):
    """Symbols to received symbols."""

    @property
    def transmitter_csi(self) -> bool:
        """Return whether the transmitter knows each image's gain before it encodes."""
        ...

    def sample_state(
        self, batch: int, generator: Generators = None, device: torch.device | str = "cpu"
    ) -> ChannelState:
        """Sample one realisation for `batch` images."""
        ...

    def __call__(
        self, symbols: Symbols, generator: Generators = None, state: ChannelState | None = None
    ) -> Received:
        """Send `symbols`; the state is sampled unless one is given."""
        ...


class Refiner(Protocol):
    """Initial image to final image, at the receiver."""

    def refine(
        self, initial: Tensor, received: Received, generator: Generators = None
    ) -> Reconstruction:
        """Refine initial images [B, 3, H, W] in [0, 1], given what was received."""
        ...


@runtime_checkable
class LevelsRefiner(Refiner, Protocol):
    """A refiner that can give 8-bit levels, without the whole images as floats: less memory."""

    def refine_to_levels(
        self, initial: Tensor, received: Received, generator: Generators = None
    ) -> Reconstruction:
        """Refine as `refine` does; the images are its rounded ones, uint8 [B, 3, H, W]."""
        ...


@runtime_checkable
class SamplingRefiner(Refiner, Protocol):
    """A refiner that samples: it can give several images for what was received.

    Attributes:
        progress: called with (steps done, steps in all) after every step, unless None.
    """

    progress: Callable[[int, int], None] | None

    @property
    def sampler_name(self) -> str:
        """The sampler, such as "ddim"."""
        ...

    @property
    def num_inference_steps(self) -> int:
        """Sampling steps from pure noise."""
        ...

    def sample(
        self, initial: Tensor, received: Received, number: int, generator: Generators = None
    ) -> Reconstruction:
        """Sample `number` final images per initial image, an image's one after the other."""
        ...

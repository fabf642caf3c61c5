"""Codec of block means: an image of half the sides at four times the rate per pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from diffjscc.codecs.joint import check_images
from diffjscc.data.geometry import crop, padded_length
from diffjscc.layers.block_means import pool, replicate
from diffjscc.protocols import Codec, DetectingCodec
from diffjscc.scheme import device_of, move
from diffjscc.symbols import ChannelState, Received, Symbols


@dataclass(frozen=True)
class PooledCodec:
    """Transmission of an image's block means A·x by another codec, at factor² times its rate.

    As in Yilmaz et al., arXiv 2309.15889, whose receiver generates the rest. Rates and sizes are
    those of the original image: K equals that of the codec at the same rate, up to padding.

    Attributes:
        codec: codec of the pooled image.
        factor: side of a block in pixels.

    Raises:
        ValueError: a factor below 2.
    """

    codec: Codec
    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor is {self.factor}; blocks have a side of at least 2 pixels")

    @property
    def rates(self) -> tuple[Fraction, ...]:
        """Nominal rates in cpp, ascending: those of the codec, over factor²."""
        return tuple(rate / self.factor**2 for rate in self.codec.rates)

    @property
    def device(self) -> torch.device:
        """Device of the codec."""
        return device_of(self.codec)

    def to(self, device: torch.device | str) -> PooledCodec:
        """Move the codec to a device, in place."""
        move(self.codec, device)
        return self

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """See `Codec.encode`; channel uses beyond R·H·W count as padding.

        Raises:
            ValueError: the rate is not one of `rates`, or `images` are not valid.
        """
        self._check(rate)
        check_images(images)
        pooled = pool(images, self.factor)
        symbols = self.codec.encode(pooled, csi, self._inner(rate))
        height, width = images.shape[-2:]
        kinds = dict(symbols.uses_by_kind)
        # The last blocks of an odd size are padding, too.
        beyond = kinds.get("image", 0) - math.ceil(rate * height * width)
        if beyond > 0:
            kinds["image"] -= beyond
            kinds["padding"] = kinds.get("padding", 0) + beyond
        return replace(symbols, image_size=(height, width), nominal_rate=rate, uses_by_kind=kinds)

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`; the image is A†ŷ, constant in every block."""
        return self.attempt(received)[0]

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """See `DetectingCodec.attempt`; a codec that cannot detect outages has none."""
        self._check(received.nominal_rate)
        height, width = (padded_length(n, self.factor) // self.factor for n in received.image_size)
        inner = replace(
            received, image_size=(height, width), nominal_rate=self._inner(received.nominal_rate)
        )
        if isinstance(self.codec, DetectingCodec):
            pooled, outage = self.codec.attempt(inner)
        else:
            pooled = self.codec.decode(inner)
            outage = torch.zeros(len(pooled), dtype=torch.bool, device=pooled.device)
        return crop(replicate(pooled, self.factor), received.image_size), outage

    def _inner(self, rate: Fraction) -> Fraction:
        """Return the rate of the inner codec, in channel uses per pixel of the pooled image."""
        return rate * self.factor**2

    def _check(self, rate: Fraction) -> None:
        if rate not in self.rates:
            offered = ", ".join(map(str, self.rates))
            raise ValueError(
                f"rate {rate} is not one of {offered}: images are pooled by {self.factor}, and "
                f"their codec does not offer {self._inner(rate)}"
            )

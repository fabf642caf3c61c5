"""Half the image's sides at four times the rate: the same channel uses for a quarter of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.codecs.joint import check_images
from diffjscc.data.geometry import crop, padded_length
from diffjscc.scheme import ChannelState, Codec, Received, Scheme, Symbols


def pool(images: Tensor, factor: int) -> Tensor:
    """A: means of blocks of `factor`² pixels, [B, C, H, W] to [B, C, ⌈H/factor⌉, ⌈W/factor⌉].

    Sides that are no multiple of `factor` are filled up with copies of the last row and column.
    """
    height, width = images.shape[-2:]
    right, bottom = (padded_length(n, factor) - n for n in (width, height))
    padded = F.pad(images, (0, right, 0, bottom), mode="replicate")
    return F.avg_pool2d(padded, factor)


def replicate(pooled: Tensor, factor: int) -> Tensor:
    """A†, the pseudo-inverse of A: each pixel `factor`² times, [B, C, h, w] to factor·h, factor·w.

    A·A† is the identity; A†·A is the projection on images that are constant in every block.
    """
    return pooled.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


@dataclass(frozen=True)
class PooledCodec:
    """Sends an image's block means A·x by another codec, at factor² times the rate.

    What Yilmaz et al., arXiv 2309.15889, transmit for a receiver that makes up the rest. Rates and
    sizes are those of the image that the user gave: K is that of the codec itself at the same
    rate, up to padding.

    Attributes:
        codec: sends the pooled image.
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
        """Where the codec computes."""
        return Scheme(self.codec, self.codec.rates[0]).device

    def to(self, device: torch.device | str) -> PooledCodec:
        """Move the codec to a device, in place."""
        Scheme(self.codec, self.codec.rates[0]).to(device)
        return self

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """See `Codec.encode`; `uses_by_kind` is what the codec says of the pooled image.

        Raises:
            ValueError: no such rate, or no images.
        """
        self._check(rate)
        check_images(images)
        pooled = pool(images, self.factor)
        symbols = self.codec.encode(pooled, csi, self._inner(rate))
        height, width = images.shape[-2:]
        return replace(symbols, image_size=(height, width), nominal_rate=rate)

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`; the image is A†ŷ, constant in every block."""
        self._check(received.nominal_rate)
        height, width = (padded_length(n, self.factor) // self.factor for n in received.image_size)
        pooled = self.codec.decode(
            replace(
                received,
                image_size=(height, width),
                nominal_rate=self._inner(received.nominal_rate),
            )
        )
        return crop(replicate(pooled, self.factor), received.image_size)

    def _inner(self, rate: Fraction) -> Fraction:
        """The codec's own rate, per pixel of the pooled image."""
        return rate * self.factor**2

    def _check(self, rate: Fraction) -> None:
        if rate not in self.rates:
            offered = ", ".join(map(str, self.rates))
            raise ValueError(
                f"rate {rate} is not one of {offered}: images are pooled by {self.factor}, and "
                f"their codec does not offer {self._inner(rate)}"
            )

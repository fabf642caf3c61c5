"""What every neural joint source-channel codec shares: checks, padding, latent ↔ symbols."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diffjscc.channels.power import normalise_power
from diffjscc.data.geometry import Padding, crop, pad_to_multiple, padded_length
from diffjscc.scheme import Received, Symbols

Parts = Literal["both", "transmitter", "receiver"]


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` is a finite float [B, 3, H, W]."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} {tuple(images.shape)}; "
            "give floats of shape [B, 3, H, W] in [0, 1]"
        )
    if 0 in images.shape:
        raise ValueError(f"images have shape {tuple(images.shape)}; no side may be 0")
    if not bool(torch.isfinite(images).all()):
        raise ValueError("images hold NaN or infinite values; give finite values in [0, 1]")


def warn_outside(snr_db: Tensor, snr_range_db: tuple[float, float]) -> None:
    """Warn where an SNR [B] is outside the range that the weights were trained for."""
    low, high = snr_range_db
    if float(snr_db.min()) < low or float(snr_db.max()) > high:
        # Without the value in it, Python shows the text once and not for every fade of a sweep.
        warnings.warn(
            f"the SNR is outside the {low:g} to {high:g} dB that these weights were trained for; "
            "pictures may be worse than the channel allows",
            stacklevel=2,
        )


def latent_to_symbols(latent: Tensor) -> Tensor:
    """Real latent [B, C, h, w] to complex [B, C/2·h·w]: real parts first half, then imaginary."""
    real, imaginary = latent.float().chunk(2, dim=1)
    return torch.complex(real, imaginary).flatten(1)


def symbols_to_latent(values: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Complex [B, C/2·h·w] to real [B, C, h, w]; inverse of `latent_to_symbols`."""
    grid = values.reshape(len(values), channels // 2, *size)
    return torch.cat((grid.real, grid.imag), dim=1)


class JointCodec(nn.Module, ABC):
    """A neural codec whose latent of C real channels at 1/stride is C/2 complex symbols a cell.

    R = C / (2·stride²) channel uses per pixel. Encoder and decoder are usable apart: a codec
    loaded for one end only has None in the other's place.

    Attributes:
        stride: pixels per latent cell and side.
        padding: how pictures whose sides are no multiple of `stride` are filled up.
        config: the architecture, a frozen dataclass.
        encoder: picture to latent, or None at a receiver.
        decoder: latent to picture, or None at a transmitter.
    """

    stride: int = 16
    padding: Padding = "reflect"
    config: Any
    encoder: nn.Module | None
    decoder: nn.Module | None

    @property
    @abstractmethod
    def channels(self) -> tuple[int, ...]:
        """Latent channels C of each rate, ascending."""

    @property
    def rates(self) -> tuple[Fraction, ...]:
        """Nominal rates in cpp, ascending."""
        return tuple(Fraction(c, 2 * self.stride**2) for c in self.channels)

    @property
    def snr_range_db(self) -> tuple[float, float]:
        """SNR in dB that the weights were trained for, (low, high)."""
        low, high = self.config.snr_range_db
        return low, high

    @abstractmethod
    def analyse(
        self, images: Tensor, snr_db: Tensor, rate_index: int, gain: Tensor | None
    ) -> Tensor:
        """Padded pictures [B, 3, H', W'] to the latent [B, C, H'/stride, W'/stride]."""

    @abstractmethod
    def synthesise(
        self, latent: Tensor, snr_db: Tensor, rate_index: int, received: Received
    ) -> Tensor:
        """Equalised latent [B, C, h, w] to padded pictures [B, 3, H', W'], not clamped."""

    def encode(
        self, images: Tensor, snr_db: Tensor, rate: Fraction, gain: Tensor | None = None
    ) -> Symbols:
        """See `Codec.encode`. Pictures are padded to a multiple of `stride` first."""
        if self.encoder is None:
            raise RuntimeError("this codec was loaded for the receiver only; it cannot encode")
        check_images(images)
        if not self.training:
            warn_outside(snr_db, self.snr_range_db)
        padded = pad_to_multiple(images, self.stride, self.padding)
        latent = self.analyse(padded, snr_db, self.rate_index(rate), gain)
        values = normalise_power(latent_to_symbols(latent))
        height, width = images.shape[-2:]
        picture = min(math.ceil(rate * height * width), values.shape[1])
        kinds = {"picture": picture, "padding": values.shape[1] - picture}
        return Symbols(values, (height, width), rate, uses_by_kind=kinds)

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`."""
        return self.reconstruct(received).clamp(0, 1)

    def reconstruct(self, received: Received) -> Tensor:
        """`decode` before the pictures are clamped to [0, 1]: what training differentiates."""
        if self.decoder is None:
            raise RuntimeError("this codec was loaded for the transmitter only; it cannot decode")
        index = self.rate_index(received.nominal_rate)
        height, width = (padded_length(n, self.stride) // self.stride for n in received.image_size)
        (values, snr_db), channels = self.observed(received), self.channels[index]
        expected = channels // 2 * height * width
        if values.shape[1] != expected:
            raise ValueError(
                f"{values.shape[1]} symbols received, but a {received.image_size[1]}x"
                f"{received.image_size[0]} picture at rate {received.nominal_rate} is {expected}"
            )
        if not bool(torch.isfinite(torch.view_as_real(values)).all()):
            raise ValueError("received symbols hold NaN or infinite values; nothing was decoded")
        latent = symbols_to_latent(values, channels, (height, width))
        images = self.synthesise(latent, snr_db, index, received)
        return crop(images, received.image_size)

    def observed(self, received: Received) -> tuple[Tensor, Tensor]:
        """Symbols [B, K] that the decoder sees and SNR [B] in dB that it is told."""
        return received.equalised, received.snr_db

    def rate_index(self, rate: Fraction) -> int:
        """Position of `rate` in `rates`, or a ValueError that lists them."""
        if rate not in self.rates:
            raise ValueError(f"rate {rate} is not one of {', '.join(map(str, self.rates))}")
        return self.rates.index(rate)

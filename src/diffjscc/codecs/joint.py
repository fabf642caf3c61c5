"""Base of the neural joint source-channel codecs: checks, padding, latent ↔ symbols."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from diffjscc.arrays import check_range
from diffjscc.channels.power import normalise_power
from diffjscc.codecs.constellations import Constellation
from diffjscc.codecs.low_snr import (
    bound_csi,
    bound_snr,
    equalise,
    shrink,
    signal_share,
)
from diffjscc.codecs.reception import Receiver, as_received
from diffjscc.data.geometry import PaddedImages, Padding, crop, padded_length
from diffjscc.symbols import ChannelState, Received, Symbols

Parts = Literal["both", "transmitter", "receiver"]


def check_parts(parts: str) -> None:
    """Raise ValueError unless `parts` is one of `Parts`."""
    if parts not in get_args(Parts):
        raise ValueError(f"parts is {parts!r}; it must be one of {', '.join(get_args(Parts))}")


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` is a float [B, 3, H, W] with finite values in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} {tuple(images.shape)}; "
            "give floats of shape [B, 3, H, W] in [0, 1]"
        )
    if 0 in images.shape:
        raise ValueError(f"images have shape {tuple(images.shape)}; no side may be 0")
    check_range(images, "images")


def warn_outside(snr_db: Tensor, snr_range_db: tuple[float, float]) -> None:
    """Warn where an SNR [B] is outside the range that the weights were trained for."""
    low, high = snr_range_db
    if float(snr_db.min()) < low or float(snr_db.max()) > high:
        # The text has no value in it, so that Python shows it once and not for every fade.
        warnings.warn(
            f"the SNR is outside the {low:g} to {high:g} dB that these weights were trained for; "
            "images may be worse than the channel allows",
            stacklevel=2,
        )


def latent_to_symbols(latent: Tensor) -> Tensor:
    """Pair channels i and i + C/2 of a latent [B, C, h, w] as complex symbols [B, C/2·h·w]."""
    real, imaginary = latent.float().chunk(2, dim=1)
    return torch.complex(real, imaginary).flatten(1)


def symbols_to_latent(values: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Invert `latent_to_symbols`: complex [B, C/2·h·w] to real [B, C, h, w]."""
    grid = values.reshape(len(values), channels // 2, *size)
    return torch.cat((grid.real, grid.imag), dim=1)


def counted(values: Tensor, images: Tensor, rate: Fraction, before: int = 0) -> Symbols:
    """Make symbols of images of which `before` were sent already; uses beyond R·H·W are padding."""
    size = (images.shape[-2], images.shape[-1])
    left = max(0, math.ceil(rate * size[0] * size[1]) - before)
    image = min(left, values.shape[1])
    kinds = {"image": image, "padding": values.shape[1] - image}
    return Symbols(values, size, rate, uses_by_kind=kinds)


class JointCodec(nn.Module, ABC):
    """A neural codec that sends C real latent channels as C/2 complex symbols per position.

    R = C / (2·stride²) channel uses per pixel. Encoder and decoder can be used separately: a codec
    loaded for one end has None in place of the other.

    Attributes:
        stride: pixels per latent position and side.
        bounded: whether SNRs outside the training's range are bounded to it, see `low_snr`; False
            gives the released implementation's outputs.
        share_span: shares of signal, see `low_snr`, up to which nothing of an image counts as
            received, and from which on it keeps its contrast. At larger ones more is lost of all
            images; at smaller ones images of little contrast fall below the mean colour where a
            decoder bears noise badly. The default suits CNN and Swin: an outage at -23 dB where
            training began at 0 dB.
        padding: padding of images whose sides are not multiples of `stride`.
        config: the architecture, a frozen dataclass; its `constellation` is that of the symbols.
        encoder: image to latent, or None at a receiver.
        decoder: latent to image, or None at a transmitter.
    """

    stride: int = 16
    bounded: bool = True
    share_span: tuple[float, float] = (0.1, 0.45)
    padding: Padding = "reflect"
    config: Any
    encoder: nn.Module | None
    decoder: nn.Module | None

    def __init__(
        self,
        config: Any,  # noqa: ANN401 - each codec's own
        encoder: Callable[[Any], nn.Module],
        decoder: Callable[[Any], nn.Module],
        parts: Parts,
    ) -> None:
        """Build the ends that are wanted.

        Args:
            config: the architecture.
            encoder: makes the network of the transmitter.
            decoder: makes that of the receiver.
            parts: which ends to build.

        Raises:
            ValueError: no such `parts`.
        """
        check_parts(parts)
        super().__init__()
        self.config = config
        self.encoder = encoder(config) if parts != "receiver" else None
        self.decoder = decoder(config) if parts != "transmitter" else None

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
        """SNR range of training in dB, (low, high)."""
        low, high = self.config.snr_range_db
        return low, high

    @property
    def receiver(self) -> Receiver:
        """Receiver of faded symbols that the networks were trained with."""
        return "equalised"

    @property
    def knows_fades(self) -> bool:
        """Return whether the networks were trained on fades, at mean SNRs of `snr_range_db`."""
        return False

    @abstractmethod
    def analyse(self, images: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """Transform images [B, 3, H, W], `padded`, to the latent [B, C, H'/stride, W'/stride]."""

    @abstractmethod
    def synthesise(self, latent: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """Transform the latent [B, C, h, w] of `observed` symbols to padded images, not clamped."""

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """See `Codec.encode`. Images are padded to a multiple of `stride` first."""
        if self.encoder is None:
            raise ValueError("this codec was loaded for the receiver only; it cannot encode")
        check_images(images)
        if not self.training:
            warn_outside(self.trained_snr(csi), self.snr_range_db)
            if self.bounded:
                csi = bound_csi(csi, self.trained_snr(csi), self.snr_range_db)
        latent = self.analyse(images, csi, self.rate_index(rate))
        values = self.modulate(latent, self.rate_index(rate))
        return counted(values, images, rate)

    def modulate(self, latent: Tensor, rate_index: int) -> Tensor:
        """Map a latent [B, C, h, w] to symbols of unit mean power per image, complex64 [B, K]."""
        del rate_index
        values = normalise_power(latent_to_symbols(latent))
        if self.config.constellation is not None:
            values = Constellation(self.config.constellation)(values)
        return values

    def padded(self, images: Tensor) -> PaddedImages:
        """Images [B, 3, H, W] whose sides become multiples of `stride`, H' and W'."""
        return PaddedImages(images, self.stride, self.padding)

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`; for SNRs below the training's see `low_snr`, unless not `bounded`."""
        return self.attempt(received)[0]

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """See `DetectingCodec.attempt`; without `bounded` no image counts as an outage."""
        return self.bound(self.reconstruct(received), received)

    def bound(self, images: Tensor, received: Received) -> tuple[Tensor, Tensor]:
        """Clamp reconstructed images, in place, and shrink those of poor links; see `attempt`."""
        # In place where no gradient is wanted: a photograph of 48 megapixels takes 0.6 GB.
        images = images.clamp(0, 1) if images.requires_grad else images.clamp_(0, 1)
        if not self.bounded:
            return images, torch.zeros(len(images), dtype=torch.bool, device=images.device)
        low, _ = self.snr_range_db
        _, csi = self.observed(received)
        outage = self._lost(received)
        share = signal_share(self.trained_snr(csi), low).masked_fill(outage, 0)
        return shrink(images, share, self.share_span), outage

    def reconstruct(self, received: Received) -> Tensor:
        """Decode without clamping to [0, 1], for training."""
        images = self.synthesise(*self.received_latent(received))
        return crop(images, received.image_size)

    def received_latent(self, received: Received) -> tuple[Tensor, ChannelState, int]:
        """Check received symbols, and arrange them as the arguments of `synthesise`."""
        if self.decoder is None:
            raise ValueError("this codec was loaded for the transmitter only; it cannot decode")
        index = self.rate_index(received.nominal_rate)
        height, width = (padded_length(n, self.stride) // self.stride for n in received.image_size)
        (values, csi), channels = self.observed(received), self.channels[index]
        expected = self.channel_uses(received.nominal_rate, received.image_size)
        if values.shape[1] != expected:
            raise ValueError(
                f"{values.shape[1]} symbols received, but a {received.image_size[1]}x"
                f"{received.image_size[0]} image at rate {received.nominal_rate} is {expected}"
            )
        if not bool(torch.isfinite(torch.view_as_real(values)).all()):
            raise ValueError("received symbols hold NaN or infinite values; nothing was decoded")
        if self.bounded and not self.training:
            if not self.knows_fades:
                values, csi = bound_snr(values, csi, self.snr_range_db[0])
            csi = bound_csi(csi, self.trained_snr(csi), self.snr_range_db)
            values = values.masked_fill(self._lost(received)[:, None], 0)
        return symbols_to_latent(values, channels, (height, width)), csi, index

    def channel_uses(self, rate: Fraction, size: tuple[int, int]) -> int:
        """Compute K of an image of (H, W), padding included."""
        height, width = (padded_length(n, self.stride) // self.stride for n in size)
        return self.channels[self.rate_index(rate)] // 2 * height * width

    def observed(self, received: Received) -> tuple[Tensor, ChannelState]:
        """Return the decoder's input symbols [B, K] and the CSI that it is conditioned on."""
        if self.receiver != "equalised":
            return as_received(received, self.receiver)
        return equalise(received) if self.bounded else (received.equalised, received.state)

    def trained_snr(self, csi: ChannelState) -> Tensor:
        """Return the SNR [B] in dB that `snr_range_db` is the range of, see `knows_fades`."""
        return csi.mean_snr_db if self.knows_fades else csi.snr_db

    def _lost(self, received: Received) -> Tensor:
        """Return whether nothing of an image was received, bool [B]."""
        _, csi = self.observed(received)
        snr_db = torch.minimum(csi.snr_db, received.snr_db)
        return signal_share(snr_db, self.snr_range_db[0]) <= self.share_span[0]

    def rate_index(self, rate: Fraction) -> int:
        """Find the index of `rate` in `rates`; a ValueError lists them."""
        if rate not in self.rates:
            raise ValueError(f"rate {rate} is not one of {', '.join(map(str, self.rates))}")
        return self.rates.index(rate)

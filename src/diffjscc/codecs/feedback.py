"""FeedbackJSCC: a first round by any joint codec, then rounds that send what it left."""

from __future__ import annotations

import copy
from fractions import Fraction

import torch
from torch import Tensor, nn

from diffjscc.channels.feedback import FeedbackLink
from diffjscc.channels.power import normalise_power
from diffjscc.choices import Resend
from diffjscc.codecs.allocation import Allocation
from diffjscc.codecs.feedback_layers import (
    Estimate,
    FeedbackConfig,
    FeedbackLayer,
    Uncertainty,
    complex_symbols,
    linear_snr,
    real_numbers,
)
from diffjscc.codecs.joint import JointCodec, counted
from diffjscc.codecs.low_snr import equalise
from diffjscc.data.geometry import crop, pad_to_multiple, padded_length
from diffjscc.layers.block_dct import STRIDE
from diffjscc.rounds import Sender, parted
from diffjscc.symbols import ChannelState, Received, Symbols


class FeedbackJSCC(nn.Module):
    """A codec of several rounds over a channel with feedback.

    After Kurka and Gündüz, "DeepJSCC-f: Deep Joint Source-Channel Coding of Images with Feedback"
    (IEEE JSAIT 2020, arXiv 1911.11174): what the receiver has of an image goes back to the
    transmitter, and the next round sends what it lacks. The first round is that of a trained
    codec at half the rate. Each of the others sends the error of the receiver's image where the
    receiver is least certain, see `FeedbackLayer`.

    Args:
        config: architecture of the rounds after the first.
        first: codec of the first round, both ends, with 16 pixels per latent position and side.

    Attributes:
        link: from the receiver to the transmitter.
        resend: "uncertain" sends the coefficients of the largest predicted error; "everything" the
            same ones of all blocks, which both ends know without a word.
    """

    parts = ("encoder", "decoder", "layer")

    def __init__(self, config: FeedbackConfig, first: JointCodec) -> None:
        super().__init__()
        if first.encoder is None or first.decoder is None:
            raise ValueError(
                "the transmitter of a codec with feedback computes what the receiver does; load "
                "both ends"
            )
        if STRIDE % first.stride:
            raise ValueError(
                f"{type(first).__name__} has {first.stride} pixels per latent position; a first "
                f"round needs a divisor of {STRIDE}"
            )
        self.config, self.first, self.layer = config, first, FeedbackLayer(config)
        self.link = FeedbackLink()
        self.resend: Resend = "uncertain"

    def over(self, link: FeedbackLink, resend: Resend) -> FeedbackJSCC:
        """Return a codec of the same networks over another link."""
        other = copy.copy(self)
        other.link, other.resend = link, resend
        return other

    @property
    def encoder(self) -> nn.Module | None:
        """Encoder of the first round."""
        return self.first.encoder

    @property
    def decoder(self) -> nn.Module | None:
        """Decoder of the first round."""
        return self.first.decoder

    @property
    def rates(self) -> tuple[Fraction, ...]:
        """Nominal rates of all rounds together, in cpp, ascending."""
        return tuple(2 * rate for rate in self.first.rates)

    @property
    def rounds(self) -> int:
        """Rounds in all."""
        return 1 + self.config.rounds

    def uses(self, image_size: tuple[int, int], rate: Fraction) -> list[int]:
        """Channel uses of each round, padding included, at a total rate.

        Raises:
            ValueError: the rate is not one of `rates`.
        """
        height, width = (padded_length(side, STRIDE) for side in image_size)
        first = self.first.channels[self._index(rate)]
        uses = first // 2 * (height // self.first.stride) * (width // self.first.stride)
        number = self.config.rounds
        return [uses, *(uses * (i + 1) // number - uses * i // number for i in range(number))]

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """Encode the first round; see `Codec.encode`."""
        index = self._index(rate)
        padded = pad_to_multiple(images, STRIDE, self.first.padding)
        symbols = self.first.encode(padded, csi, self.first.rates[index])
        return counted(symbols.values, images, rate)

    @torch.no_grad()
    def sender(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Sender:
        """See `FeedbackCodec.sender`."""
        known = yield self.encode(images, csi, rate)
        padded = pad_to_multiple(images, STRIDE, self.first.padding)
        estimate, snr_db = self._begin(known)[0], _snr_db(known)
        first, *rest = self.uses(known.image_size, rate)
        for number, uses in enumerate(rest):
            condition = self.layer.embed(snr_db, float(rate), number)
            before, allocation = self._plan(estimate, condition, 2 * uses, snr_db)
            error = self.layer.coefficients(padded - estimate.image)
            values = normalise_power(complex_symbols(self.layer.send(error, allocation)))
            known = yield counted(values, images, rate, first + sum(rest[:number]))
            estimate = self._receive(estimate, before, allocation, known, condition)

    def estimates(self, received: Received) -> list[Tensor]:
        """Decode after each round that was received: images [B, 3, H, W] in [0, 1]."""
        return self._estimates(received)[0]

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`; the symbols may be those of the first rounds alone."""
        return self.attempt(received)[0]

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """See `DetectingCodec.attempt`; an outage is that of the first round."""
        images, outage = self._estimates(received)
        return images[-1], outage

    def _estimates(self, received: Received) -> tuple[list[Tensor], Tensor]:
        """Images after each round, and whether each is an outage."""
        size, rate = received.image_size, received.nominal_rate
        rounds = parted(received, self.uses(size, rate))
        (estimate, outage), snr_db = self._begin(rounds[0]), _snr_db(rounds[0])
        images = [crop(estimate.image, size)]
        for number, one in enumerate(rounds[1:]):
            condition = self.layer.embed(snr_db, float(rate), number)
            before, allocation = self._plan(estimate, condition, 2 * one.channel_uses, snr_db)
            estimate = self._receive(estimate, before, allocation, one, condition)
            image = crop(estimate.image, size).clamp(0, 1)
            images.append(torch.where(outage[:, None, None, None], images[0], image))
        return images, outage

    def _index(self, rate: Fraction) -> int:
        if rate not in self.rates:
            raise ValueError(f"rate {rate} is not one of {', '.join(map(str, self.rates))}")
        return self.rates.index(rate)

    def _begin(self, received: Received) -> tuple[Estimate, Tensor]:
        """Decode the first round: the estimate, and whether each image is an outage."""
        height, width = (padded_length(side, STRIDE) for side in received.image_size)
        rate = self.first.rates[self._index(received.nominal_rate)]
        image, outage = self.first.attempt(
            Received(received.values, (height, width), rate, received.state)
        )
        total = float(received.nominal_rate)
        return self.layer.begin(image, _snr_db(received), total), outage

    def _plan(
        self, estimate: Estimate, condition: Tensor, numbers: int, snr_db: Tensor
    ) -> tuple[Uncertainty, Allocation]:
        """Both ends' view of the next round: what is uncertain, and what is sent of it."""
        uncertainty = self.layer.uncertainty(estimate, condition)
        everywhere = self.resend == "everything"
        return uncertainty, uncertainty.allocate(numbers, linear_snr(snr_db), everywhere)

    def _receive(
        self,
        estimate: Estimate,
        before: Uncertainty,
        allocation: Allocation,
        received: Received,
        condition: Tensor,
    ) -> Estimate:
        values, state = equalise(received)
        snr = linear_snr(state.snr_db)
        numbers = real_numbers(values)
        return self.layer.receive(estimate, before, allocation, numbers, snr, condition)


def _snr_db(received: Received) -> Tensor:
    """SNR of a round [B], which both ends expect of the next."""
    return equalise(received)[1].snr_db

"""A codec of several rates that chooses one for each image, and signals which."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from diffjscc.codecs.digital.link import mean_image
from diffjscc.codecs.joint import JointCodec, check_images
from diffjscc.codecs.rate_policy import RatePolicy
from diffjscc.codecs.signalling import read_signal, signal_length, signalled
from diffjscc.protocols import TextureCodec
from diffjscc.scheme import device_of, move
from diffjscc.symbols import ChannelState, Received, Symbols


@dataclass(frozen=True)
class AdaptiveCodec:
    """Joint source-channel coding at a rate that a policy chooses for each image.

    K = L + K(R), where L symbols signal the number of the rate R in a strong code; L follows from
    the SNR that both ends assume, see `signalling`. A receiver that reads another rate than was
    sent finds another number of symbols: an outage.

    Attributes:
        codec: of several rates.
        policy: chooses one of them.
        rates: the nominal rate, in cpp: the mean rate of photographs, which single images exceed,
            or with a target quality the highest rate.

    Raises:
        ValueError: the policy is of other rates than the codec, or a nominal rate is outside them.
    """

    codec: JointCodec
    policy: RatePolicy
    rates: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        own = self.codec.rates
        listed = ", ".join(map(str, own))
        if self.policy.predictor.rates != own:
            measured = ", ".join(map(str, self.policy.predictor.rates))
            raise ValueError(
                f"the rate policy is of rates {measured}, but the codec has {listed}; measure it "
                "again with `diffjscc calibrate rates`"
            )
        for rate in self.rates:
            if not own[0] <= rate <= own[-1]:
                raise ValueError(f"rate {rate} is outside {own[0]} to {own[-1]}, the codec's rates")

    @property
    def highest_rate(self) -> Fraction:
        """See `AveragingCodec.highest_rate`."""
        return self.codec.rates[-1]

    @property
    def device(self) -> torch.device:
        """Device of the codec."""
        return device_of(self.codec)

    def to(self, device: torch.device | str) -> AdaptiveCodec:
        """Move the codec to a device, in place."""
        move(self.codec, device)
        return self

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        """See `Codec.encode`.

        Raises:
            ValueError: `images` are not valid, or are given different numbers of channel uses.
        """
        check_images(images)
        choices = self.policy.choose(images, csi, rate)
        assumed = csi.snr_db.tolist()
        lengths = [signal_length(len(self.codec.rates), snr_db) for snr_db in assumed]
        plans = sorted({*zip(choices, lengths, strict=True)})
        if len(plans) > 1:
            taken = ", ".join(str(self.codec.rates[choice]) for choice in sorted({*choices}))
            raise ValueError(
                f"these images are sent at rates {taken}, in different numbers of channel uses; "
                "send them one at a time"
            )
        ((choice, length),) = plans
        sent = self.codec.encode(images, csi, self.codec.rates[choice])
        signal = signalled(choice, len(self.codec.rates), length).to(sent.values.device)
        return Symbols(
            torch.cat((signal.expand(len(images), -1), sent.values), dim=1),
            sent.image_size,
            rate,
            uses_by_kind={"signalling": length, **sent.uses_by_kind},
        )

    def decode(self, received: Received) -> Tensor:
        """See `Codec.decode`."""
        return self.attempt(received)[0]

    def attempt(self, received: Received) -> tuple[Tensor, Tensor]:
        """See `DetectingCodec.attempt`."""
        images, outage, _ = self.attempt_with_texture(received)
        return images, outage

    def attempt_with_texture(self, received: Received) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `TextureCodec.attempt_with_texture`; no map where the codec conveys none."""
        parts = [
            self._attempt_one(received.select(slice(i, i + 1))) for i in range(len(received.values))
        ]
        images, outages, textures = zip(*parts, strict=True)
        known = [texture for texture in textures if texture is not None]
        whole = torch.cat(known) if len(known) == len(parts) else None
        return torch.cat(images), torch.cat(outages), whole

    def _attempt_one(self, received: Received) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decode one transmission."""
        rates = self.codec.rates
        length = signal_length(len(rates), float(received.state.at_transmitter.snr_db))
        signal = received.span(slice(length), received.nominal_rate).equalised
        rate = rates[int(read_signal(signal, len(rates)))]
        rest = received.span(slice(length, None), rate)
        if rest.channel_uses != self.codec.channel_uses(rate, received.image_size):
            missing = mean_image(received.image_size, received.values.device)
            return missing[None].clone(), torch.ones(1, dtype=torch.bool), None
        if isinstance(self.codec, TextureCodec):
            return self.codec.attempt_with_texture(rest)
        return *self.codec.attempt(rest), None

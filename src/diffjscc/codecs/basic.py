"""BasicJSCC: the first DeepJSCC, five convolutions at each end, for one rate and one SNR."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from diffjscc.choices import ConstellationName
from diffjscc.codecs.constellations import check_constellation
from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.codecs.ranges import WIDTH, check_channels, check_numbers, check_snr_span
from diffjscc.codecs.reception import Receiver, check_receiver
from diffjscc.data.geometry import Padding
from diffjscc.symbols import ChannelState

KERNEL = 5
STRIDES = (2, 2, 1, 1, 1)


@dataclass(frozen=True)
class BasicJSCCConfig:
    """Architecture of `BasicJSCC`; the defaults are the published one at k/n = 1/12.

    Attributes:
        channels: latent channels c, even; R = c/32 cpp, k/n = c/96 on RGB images.
        widths: feature channels after each of the first four convolutions.
        snr_range_db: SNRs of training in dB, (low, high), which may be one SNR.
        padding: padding of images whose sides are not multiples of 4.
        receiver: "equalised" divides by the channel's gain. "unequalised" decodes h·x + n as
            received, which is the published receiver for slow fading; "derotated" |h|·x + n.
        constellation: finite alphabet of the symbols, see `codecs.constellations`; None for any
            complex numbers.
    """

    channels: int = 8
    widths: tuple[int, int, int, int] = (16, 32, 32, 32)
    snr_range_db: tuple[float, float] = (0.0, 20.0)
    padding: Padding = "reflect"
    receiver: Receiver = "equalised"
    constellation: ConstellationName | None = None

    def __post_init__(self) -> None:
        check_receiver(self.receiver)
        check_channels(self.channels)
        check_numbers(self, {"channels": (2, 4096), "widths": WIDTH})
        check_snr_span(self.snr_range_db)
        check_constellation(self.constellation)


class Encoder(nn.Sequential):
    """Encoder: five convolutions of 5x5, each with a PReLU; the first two halve the size."""

    def __init__(self, config: BasicJSCCConfig) -> None:
        widths = (3, *config.widths, config.channels)
        layers: list[nn.Module] = []
        for (before, after), stride in zip(pairwise(widths), STRIDES, strict=True):
            convolution = nn.Conv2d(before, after, KERNEL, stride=stride, padding=KERNEL // 2)
            layers += [convolution, nn.PReLU(after)]
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """Decoder: the encoder's mirror image in transposed convolutions, and a sigmoid at the end."""

    def __init__(self, config: BasicJSCCConfig) -> None:
        widths = (config.channels, *config.widths[::-1], 3)
        layers: list[nn.Module] = []
        for (before, after), stride in zip(pairwise(widths), STRIDES[::-1], strict=True):
            convolution = nn.ConvTranspose2d(
                before,
                after,
                KERNEL,
                stride=stride,
                padding=KERNEL // 2,
                output_padding=stride - 1,
            )
            layers += [convolution, nn.PReLU(after)]
        layers[-1] = nn.Sigmoid()
        super().__init__(*layers)


class BasicJSCC(JointCodec):
    """DeepJSCC of Bourtsoulatze, Kurka and Gündüz (arXiv 1809.01733): 0.14 M parameters.

    Neither end is given the SNR: the codec is trained for one, and used at others without a change,
    where its images get better or worse by degrees.

    Args:
        config: the architecture.
        parts: which ends to build.
    """

    stride = 4
    bounded = False

    def __init__(self, config: BasicJSCCConfig, parts: Parts = "both") -> None:
        super().__init__(config, Encoder, Decoder, parts)
        self.padding = config.padding

    @property
    def receiver(self) -> Receiver:
        """See the config."""
        receiver: Receiver = self.config.receiver
        return receiver

    @property
    def channels(self) -> tuple[int, ...]:
        """Latent channels c; these weights have one rate."""
        return (self.config.channels,)

    def analyse(self, images: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.analyse`; the CSI has no effect."""
        del csi, rate_index
        assert self.encoder is not None
        latent: Tensor = self.encoder(self.padded(images).whole())
        return latent

    def synthesise(self, latent: Tensor, csi: ChannelState, rate_index: int) -> Tensor:
        """See `JointCodec.synthesise`; the CSI has no effect."""
        del csi, rate_index
        assert self.decoder is not None
        images: Tensor = self.decoder(latent)
        return images

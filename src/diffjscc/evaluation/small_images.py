"""The figure of DeepJSCC on images of 32x32 pixels (arXiv 1809.01733) as sweeps.

PSNR over the SNR of the channel, of a codec for each SNR of training, at k/n = 1/12 and 1/6; beside
them digital links at capacity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from diffjscc.codecs.digital.source_codecs.hevc import HEVCIntra
from diffjscc.codecs.digital.source_codecs.source import SourceUnavailable
from diffjscc.evaluation.config import SweepConfig
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig

SIDE = 32  # pixels
SHORT_SIDE = 64  # of photographs before 32x32 pixels are cut of them
CHANNELS = {
    Fraction(1, 12): 8,
    Fraction(1, 6): 16,
}  # latent channels by k/n, complex uses per value
TRAINED_SNRS_DB = (1.0, 7.0, 19.0)
SNRS_DB = (-2.0, 1.0, 4.0, 7.0, 10.0, 13.0, 16.0, 19.0, 22.0, 25.0)


@dataclass(frozen=True)
class SmallExperiment:
    """A sweep of the figure.

    Attributes:
        name: of its folder, such as "1-12".
        config: the sweep.
        left_out: links that it does not show, and why.
    """

    name: str
    config: SweepConfig
    left_out: tuple[str, ...] = ()


def small_experiment(
    ratio: Fraction,
    codecs: Mapping[float, Path],
    images: Sequence[str],
    channel: str = "awgn",
    repeats: int = 5,
    quick: bool = False,
) -> SmallExperiment:
    """Configure the sweep of one k/n.

    Args:
        ratio: k/n, complex channel uses per value of RGB; one of `CHANNELS`.
        codecs: weights by the SNR in dB of their training.
        images: files, folders or patterns. Photographs are reduced to a short side of about 64
            pixels, of which the middle 32x32 are taken; images of 32x32 pixels stay as they are.
        channel: name of the channel.
        repeats: transmissions per image and point.
        quick: run a smoke test: the ends of the SNRs, and no digital link.
    """
    schemes = [
        SchemeConfig(kind="deepjscc", label=f"trained at {snr_db:g} dB", weights=str(weights))
        for snr_db, weights in codecs.items()
    ]
    left_out: tuple[str, ...] = ()
    if not quick:
        schemes.append(SchemeConfig(kind="jpeg2000-capacity"))
        try:
            HEVCIntra()
            schemes.append(SchemeConfig(kind="bpg-capacity"))
        except SourceUnavailable as error:
            left_out = (f"bpg-capacity: {error}",)
    config = SweepConfig(
        images=tuple(images),
        schemes=tuple(schemes),
        channels=(ChannelConfig.model_validate(ChannelConfig.named(channel)),),
        rates=(str(3 * ratio),),
        snrs_db=(SNRS_DB[0], SNRS_DB[-1]) if quick else SNRS_DB,
        repeats=1 if quick else repeats,
        max_side=3 * SHORT_SIDE // 2,
        crop=SIDE,
        metrics=("psnr",),
        features=(),
    )
    return SmallExperiment(str(ratio).replace("/", "-"), config, left_out)

"""Digital links by kind: a source codec, and the channel code that carries its bits."""

from __future__ import annotations

from collections.abc import Callable

from diffjscc.choices import DigitalKind
from diffjscc.codecs.digital.capacity import CapacityCodec
from diffjscc.codecs.digital.mcs import MCS
from diffjscc.codecs.digital.separate import SeparateCodec
from diffjscc.codecs.digital.source_codecs.bpg import BPGPrograms
from diffjscc.codecs.digital.source_codecs.downsampled import Downsampled, DownsamplingLadder
from diffjscc.codecs.digital.source_codecs.hevc import HEVCIntra
from diffjscc.codecs.digital.source_codecs.pillow import AVIF, JPEG, JPEG2000, WebP
from diffjscc.codecs.digital.source_codecs.source import FileCodec, SourceCodec, check_quality
from diffjscc.rate import Rate, parse_rate
from diffjscc.scheme import Scheme
from diffjscc.schemes.digital_options import DigitalOptions

# Source codecs by the part of a `DigitalKind` before "-ldpc" or "-capacity".
SOURCES: dict[str, Callable[[], FileCodec]] = {
    "bpg": HEVCIntra,
    "bpg-420": lambda: HEVCIntra("4:2:0"),
    "bpgenc": BPGPrograms,
    "jpeg": JPEG,
    "jpeg2000": JPEG2000,
    "webp": WebP,
    "avif": AVIF,
}
# By which images are made smaller where that helps. By 8 all of Kodak fits at R = 1/128 and 1 dB.
FACTORS = (8, 4, 2)


def source_name(kind: DigitalKind) -> str:
    """Return the key in `SOURCES` of a link's source codec."""
    return kind.rpartition("-")[0]


def digital_scheme(
    kind: DigitalKind,
    rate: Rate,
    options: DigitalOptions | None = None,
    source: SourceCodec | None = None,
) -> Scheme:
    """Make a digital link at any rate.

    Args:
        kind: source codec and channel code.
        rate: nominal, in channel uses per pixel: "1/16", 0.0625 or a Fraction.
        options: settings that differ from those of a link that adapts to the SNR.
        source: the kind's source codec, where one is there already; None makes it.

    Raises:
        SourceUnavailable: this installation lacks the source codec.
        ValueError: the source codec has no such quality, or it is a capacity link, to which
            neither MCS nor quality applies.
    """
    how, rate = options or DigitalOptions(), parse_rate(rate)
    name = source_name(kind)
    source = SOURCES[name]() if source is None else source
    if how.downsample:
        source = DownsamplingLadder([*(Downsampled(source, factor) for factor in FACTORS), source])
    if how.quality is not None:
        check_quality(source, how.quality)
    rates = (rate,)
    if kind.endswith("-ldpc"):
        mcs = None if how.mcs is None else MCS.named(how.mcs)
        quality = "" if how.quality is None else f" at quality {how.quality}"
        settings = f"{source.name}{quality}, {how.mcs or 'MCS by SNR'}"
        return Scheme(SeparateCodec(source, rates, mcs, how.quality), rate, provenance=settings)
    for option, value in (("mcs", how.mcs), ("quality", how.quality)):
        if value is not None:
            raise ValueError(
                f"{option} is {value}, but {kind} has an ideal code at the rate that the SNR "
                f"allows; leave it out, or take {name}-ldpc"
            )
    return Scheme(CapacityCodec(source, rates), rate, provenance=f"{source.name}, capacity")

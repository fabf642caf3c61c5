"""Captions as symbols: compressed, with a CRC, behind a strong code."""

from __future__ import annotations

import math

from torch import Tensor

from diffjscc.codecs.digital.caption_text import compress, decompress
from diffjscc.codecs.digital.crc import CRC_LENGTH
from diffjscc.codecs.digital.frame import Frame
from diffjscc.codecs.digital.mcs import ALL, MCS, thresholds_db
from diffjscc.protocols import InfeasibleError

STRONGEST = ALL["bpsk 1/2"]  # that of radio headers
# A caption is far shorter than a codeword: what is sent is mostly parity, whatever the code, and
# least of it where its rate is highest.
OFFERED = (*(mcs for name, mcs in ALL.items() if name.endswith(" 5/6")), STRONGEST)


def caption_mcs(data_bytes: int, snr_db: float) -> MCS:
    """Choose the modulation and code that need the fewest channel uses at an Es/N0 in dB.

    A code shortened to the rate r' needs an SNR lower by 10·log10(r/r') dB, that is the same energy
    per bit, and less than that as measured: 20 bytes arrive by "bpsk 5/6" at -1 dB, and by
    "bpsk 1/2" at -6 dB.
    """

    def needed_db(mcs: MCS) -> float:
        uses = Frame.needed(mcs, data_bytes)
        efficiency = (8 * data_bytes + CRC_LENGTH) / uses
        return thresholds_db()[mcs.name] - 10 * math.log10(float(mcs.efficiency) / efficiency)

    usable = [mcs for mcs in OFFERED if needed_db(mcs) <= snr_db]
    return min(usable, key=lambda mcs: Frame.needed(mcs, data_bytes), default=STRONGEST)


def modulate_caption(text: str, snr_db: float) -> Tensor:
    """Compress and code a caption as symbols of unit mean power, complex64 [L].

    Args:
        text: the caption.
        snr_db: Es/N0 in dB that the transmitter assumes.

    Raises:
        ValueError: the caption is too long.
    """
    data = compress(text) or b"\0"
    mcs = caption_mcs(len(data), snr_db)
    return Frame(mcs, Frame.needed(mcs, len(data))).modulate(data)


def demodulate_caption(values: Tensor, noise_power: Tensor) -> str | None:
    """Decode a caption by the one of `OFFERED` whose CRC holds; None where none does.

    Args:
        values: equalised symbols, complex64 [L].
        noise_power: N0/|gain|², float32 [L] or [1].

    Raises:
        ValueError: a symbol is not finite, or a noise power not finite and positive.
    """
    for mcs in OFFERED:
        try:
            data = Frame(mcs, len(values)).demodulate(values, noise_power)
        except InfeasibleError:  # too few symbols for this code
            continue
        if data is not None:
            return _text(data)
    return None


def _text(data: bytes) -> str | None:
    """Decompress a caption; None of bytes that none is compressed to."""
    try:
        return decompress(data)
    except ValueError:
        return None

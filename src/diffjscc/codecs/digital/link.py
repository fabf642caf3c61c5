"""Functions shared by digital links: channel uses, rate matching, outage images."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from diffjscc.codecs.digital.source_codecs.source import SourceCodec
from diffjscc.codecs.low_snr import MEAN_COLOUR
from diffjscc.protocols import InfeasibleError
from diffjscc.symbols import Received


def channel_uses(rate: Fraction, size: tuple[int, int]) -> int:
    """Compute K = ⌈R·H·W⌉ of an image of (H, W) at rate R."""
    return math.ceil(rate * size[0] * size[1])


def finest_within(source: SourceCodec, image: Tensor, bits: int, carrier: str) -> bytes:
    """Encode an image [3, H, W] at the finest quality that fits.

    Args:
        source: source codec.
        image: image in [0, 1].
        bits: maximum number of bits.
        carrier: description of the channel uses, for the error.

    Raises:
        InfeasibleError: the coarsest quality takes more.
    """
    data = source.finest(image, bits)
    if data is None:
        coarsest = 8 * len(source.encode(image, source.qualities[0]))
        raise InfeasibleError(
            f"{source.name} takes {coarsest:,} bits at its coarsest quality, but {carrier} carry "
            f"{bits:,}: raise the rate or the SNR, or send fewer pixels"
        )
    return data


def mean_image(size: tuple[int, int], device: torch.device) -> Tensor:
    """Create the image that replaces an outage of size (H, W), float32 [3, H, W]."""
    return torch.tensor(MEAN_COLOUR, device=device)[:, None, None].expand(3, *size)


def check_received(received: Received, uses: int | None) -> None:
    """Raise ValueError unless symbols are finite and, unless `uses` is None, of that number."""
    if uses is not None and received.channel_uses != uses:
        height, width = received.image_size
        raise ValueError(
            f"{received.channel_uses} symbols received, but a {width}x{height} image at rate "
            f"{received.nominal_rate} is {uses}"
        )
    if not bool(torch.isfinite(torch.view_as_real(received.equalised)).all()):
        raise ValueError("received symbols hold NaN or infinite values; nothing was decoded")

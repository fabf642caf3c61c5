"""Reception below the SNR that a codec was trained for.

A network that sees more noise than in any image of its training leaves the range of images, and at
last that of numbers. Three steps outside the network keep both: symbols that fade by themselves are
equalised by MMSE, symbols are scaled to the power that the lowest trained SNR gives them, and
decoded images shrink towards the mean colour of photographs as the symbols' share of signal falls.
Where that share is too small, which depends on the codec (`JointCodec.share_span`), nothing of the
image was received: that colour is all that is left, an outage.

With one gain per image MMSE equalisation differs from zero forcing by a factor that the networks,
which know the SNR, have learnt. Below the trained range it would also take the power off their
inputs, and is worse than constant power by up to 5 dB (R = 1/16, -12 dB).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from diffjscc.channels.equalisation import mmse
from diffjscc.symbols import ChannelState, Received

# Mean of the ImageNet training images, the usual normalisation of inputs. A constant costs no
# channel uses; the mean of an image would have to be sent.
MEAN_COLOUR = (0.485, 0.456, 0.406)


def equalise(received: Received) -> tuple[Tensor, ChannelState]:
    """Equalise symbols by zero forcing, or by MMSE where each symbol has a gain of its own.

    Zero forcing would raise the noise of faded symbols beyond all bounds. A channel that equalises
    hands one gain on, so nothing is equalised twice.

    Args:
        received: symbols [B, K] with gain [B, 1] or [B, K].

    Returns:
        Equalised symbols [B, K], and the channel state with one gain, of the SNR that they have.
    """
    if received.state.gain.shape[1] == 1:
        return received.equalised, received.state
    return mmse(received.values, received.state)


def bound_csi(csi: ChannelState, snr_db: Tensor, range_db: tuple[float, float]) -> ChannelState:
    """Move the mean SNR of a channel state by what `snr_db` [B] is outside of a range."""
    return replace(csi, mean_snr_db=csi.mean_snr_db + (snr_db.clamp(*range_db) - snr_db))


def bound_snr(values: Tensor, csi: ChannelState, low_db: float) -> tuple[Tensor, ChannelState]:
    """Bring equalised symbols below an SNR to the statistics that they have at it.

    Args:
        values: equalised symbols, complex64 [B, K], x + n of mean power 1 + 1/SNR.
        csi: their channel state.
        low_db: lowest SNR of the training, in dB.

    Returns:
        The symbols scaled to mean power 1 + 1/low, and the channel state with an SNR of at least
        `low_db`; both as they were where the SNR is not below it.
    """
    bounded = bound_csi(csi, csi.snr_db, (low_db, math.inf))
    return values * signal_share(csi.snr_db, low_db)[:, None], bounded


def signal_share(snr_db: Tensor, low_db: float) -> Tensor:
    """Amplitude of the sent symbols in scaled ones, sqrt((1 + 1/low) / (1 + 1/SNR)), at most 1.

    Args:
        snr_db: effective SNR [B].
        low_db: lowest SNR of the training.

    Returns:
        Float [B]; 1 where the SNR is not below `low_db`.
    """
    noise = torch.pow(10.0, -snr_db / 10)
    share = ((1 + 10 ** (-low_db / 10)) / (1 + noise)).sqrt()
    return share.clamp(max=1)


def shrink(images: Tensor, share: Tensor, span: tuple[float, float]) -> Tensor:
    """Move images [B, 3, H, W] towards the mean colour, by the share of signal [B].

    The weight of an image is 0 up to the first share of `span` and 1 from the second on; between
    them it rises as a quarter of a sine.
    """
    none, full = span
    if bool((share >= full).all()):
        return images
    weights = torch.sin(math.pi / 2 * ((share - none) / (full - none)).clamp(0, 1))
    weights = weights[:, None, None, None]
    mean = torch.tensor(MEAN_COLOUR, device=images.device)[:, None, None]
    shrunk = torch.where(weights > 0, mean + weights * (images - mean), mean)
    # Images of full weight keep every bit.
    return torch.where(share[:, None, None, None] < full, shrunk, images)

"""Reception below the SNR that a codec was trained for.

A network that sees more noise than in any image of its training leaves the range of images, and at
last that of numbers. Two steps outside the network keep both: symbols are scaled to the power that
the lowest trained SNR gives them, and decoded images shrink towards the mean colour of photographs
as the symbols' share of signal falls. In deep noise that colour is all that is left.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from diffjscc.scheme import ChannelState

# Mean of the ImageNet training images, the usual normalisation of inputs. A constant costs no
# channel uses; the mean of an image would have to be sent.
MEAN_COLOUR = (0.485, 0.456, 0.406)

# Steepness of the shrinkage: within 0.08 (rms) of the least-squares weight of the image, on 20
# training photographs at all rates of the bundled codec, -6 to -60 dB.
STEEPNESS = 2.8


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
    lacking = (low_db - csi.snr_db).clamp(min=0)
    bounded = replace(csi, mean_snr_db=csi.mean_snr_db + lacking)
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


def shrink(images: Tensor, share: Tensor) -> Tensor:
    """Move images [B, 3, H, W] towards the mean colour, by the share of signal [B].

    The weight of the image, tanh(c·share)/tanh(c), is 1 at a share of 1.
    """
    weight = torch.tanh(STEEPNESS * share) / math.tanh(STEEPNESS)
    mean = torch.tensor(MEAN_COLOUR, device=images.device)[:, None, None]
    weights = weight[:, None, None, None]
    # Images at a share of 1 keep every bit.
    return torch.where(weights < 1, mean + weights * (images - mean), images)

"""One differentiable pass of a batch over the link, every image at a rate and SNR of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from diffjscc.codecs.joint import JointCodec
from diffjscc.scheme import Scheme
from diffjscc.training.config import TrainingChannelConfig


def deliver(
    codec: JointCodec,
    channel: TrainingChannelConfig,
    images: Tensor,
    snr_db: Tensor,
    rates: Tensor,
    seeds: Tensor,
) -> Tensor:
    """What the codec makes of images that were sent, before it is clamped to [0, 1].

    Args:
        codec: sends and receives.
        channel: what is sent over.
        images: float32 [B, 3, H, W] in [0, 1].
        snr_db: Es/N0 in dB, float32 [B].
        rates: positions in `codec.rates`, int64 [B].
        seeds: of each image's noise and fade, int64 [B].

    Returns:
        float32 [B, 3, H, W].
    """
    delivered = torch.empty_like(images)
    for index in sorted(set(rates.tolist())):
        chosen = (rates == index).nonzero().flatten()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[chosen].tolist()]
        scheme = Scheme(codec, codec.rates[index])
        received = scheme.send(images[chosen], channel.at(snr_db[chosen]), generators)
        delivered[chosen] = codec.reconstruct(received).float()
    return delivered

"""Differentiable transmission of training batches, each image at a rate and SNR of its own."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from diffjscc.codecs.compact import CompactJSCC
from diffjscc.data.crops import TrainingCrops
from diffjscc.data.sources import ImageSource
from diffjscc.protocols import Codec
from diffjscc.scheme import Scheme
from diffjscc.symbols import Received
from diffjscc.training.augmentation import augmented_crop
from diffjscc.training.codec_config import JSCCConfig
from diffjscc.training.config import RateShares, TrainingChannelConfig


def rate_probabilities(shares: RateShares | None, rates: Sequence[Fraction]) -> list[float]:
    """Probability of each of a codec's rates, ascending; equal where `shares` is None.

    Raises:
        ValueError: not one for each rate, or they do not add up to 1.
    """
    if shares is None:
        return [1 / len(rates)] * len(rates)
    if len(shares) != len(rates) or not math.isclose(sum(shares), 1):
        raise ValueError(
            f"rate_shares are {list(shares)}; give {len(rates)} numbers that add up to 1"
        )
    return list(shares)


def trained_rates(shares: RateShares | None, rates: Sequence[Fraction]) -> list[Fraction]:
    """Rates of a probability above 0, ascending."""
    probabilities = rate_probabilities(shares, rates)
    return [rate for rate, p in zip(rates, probabilities, strict=True) if p > 0]


@dataclass(frozen=True)
class TransmissionBatch:
    """One process's part of an iteration's images, and the conditions that they are sent under.

    Attributes:
        images: float32 [b, 3, n, n] in [0, 1].
        snr_db: mean Es/N0 in dB, float32 [b].
        rates: positions in the codec's rates, int64 [b].
        seeds: seeds of each image's noise and fade, int64 [b].
    """

    images: Tensor
    snr_db: Tensor
    rates: Tensor
    seeds: Tensor


class TransmissionBatches:
    """Crops, rates, SNRs and noise seeds of every iteration, by number.

    Args:
        source: training images.
        config: crops, batch, seed, SNR range and shares of the rates.
        rates: the codec's rates.

    Raises:
        ValueError: shares that do not fit the rates.
    """

    def __init__(self, source: ImageSource, config: JSCCConfig, rates: Sequence[Fraction]) -> None:
        self.config = config
        self.probabilities = rate_probabilities(config.rate_shares, rates)
        run = config.run
        cut = functools.partial(augmented_crop, augmentation=config.augmentation)
        self.crops = TrainingCrops(source, config.data.crop, run.seed, run.batch, cut)

    def batch_at(self, step: int, process: int = 0, processes: int = 1) -> TransmissionBatch:
        """One process's part of the batch of iteration `step`."""
        low, high = self.config.channel.snr_db
        batch = self.config.run.batch
        generator = np.random.default_rng([self.config.run.seed, 1, step])
        snr_db = generator.uniform(low, high, batch)
        rates = generator.choice(len(self.probabilities), batch, p=self.probabilities)
        seeds = generator.integers(2**62, size=batch)
        share = batch // processes  # as TrainingCrops shares images
        mine = slice(process * share, (process + 1) * share)
        return TransmissionBatch(
            self.crops.batch_at(step, process, processes),
            torch.from_numpy(snr_db[mine]).float(),
            torch.from_numpy(rates[mine]),
            torch.from_numpy(seeds[mine]),
        )


def transmit(
    codec: Codec,
    channel: TrainingChannelConfig,
    images: Tensor,
    snr_db: Tensor,
    rates: Tensor,
    seeds: Tensor,
) -> tuple[Tensor, Tensor | None]:
    """Encode, transmit and decode a batch, differentiably.

    Args:
        codec: decodes by its `reconstruct`, which does not clamp to [0, 1], if it has one, and
            else by `decode`.
        channel: the channel.
        images: float32 [B, 3, H, W] in [0, 1].
        snr_db: mean Es/N0 in dB, float32 [B].
        rates: positions in `codec.rates`, int64 [B].
        seeds: seeds of each image's noise and fade, int64 [B].

    Returns:
        Reconstructed images, float32 [B, 3, H, W], and received texture maps, float32
        [B, 1, h, w], or None where the codec conveys none.
    """
    reconstructed, maps = torch.empty_like(images), dict[int, Tensor]()
    for index in sorted(set(rates.tolist())):
        chosen = (rates == index).nonzero().flatten()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[chosen].tolist()]
        scheme = Scheme(codec, codec.rates[index])
        received = scheme.send(images[chosen], channel.at(snr_db[chosen]), generators)
        decoded, texture = _reconstruct(codec, received)
        reconstructed[chosen] = decoded.float()
        if texture is not None:
            maps |= dict(zip(chosen.tolist(), texture.float(), strict=True))
    return reconstructed, torch.stack([maps[i] for i in sorted(maps)]) if maps else None


def _reconstruct(codec: Codec, received: Received) -> tuple[Tensor, Tensor | None]:
    """Decode without clamping where the codec can; also the texture map that it conveys."""
    if isinstance(codec, CompactJSCC) and codec.config.texture:
        return codec.reconstruct_with_texture(received)
    return getattr(codec, "reconstruct", codec.decode)(received), None


class PSNRByRate:
    """PSNR of the training images since the last report, by rate."""

    def __init__(self, rates: Sequence[Fraction]) -> None:
        self.rates = rates
        self.totals = torch.zeros(2, len(rates))

    def add(self, rates: Tensor, mse: Tensor) -> None:
        """Add images of these rate indices [B] and MSEs [B]."""
        self.totals[0].index_add_(0, rates, mse.detach().cpu())
        self.totals[1].index_add_(0, rates, torch.ones(len(rates)))

    def report(self) -> dict[str, float]:
        """PSNR of the mean MSE in dB, of every rate that occurred; starts anew."""
        psnrs = -10 * torch.log10(self.totals[0] / self.totals[1])
        named = zip(self.rates, psnrs.tolist(), strict=True)
        self.totals.zero_()
        return {f"training psnr/rate {r}": psnr for r, psnr in named if not math.isnan(psnr)}

"""Latents that control training reads: how they are identified, and the batches made of them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffjscc.codecs.joint import JointCodec
from diffjscc.data.crops import EpochOrder
from diffjscc.data.sources import ImageSource
from diffjscc.rate import parse_rate
from diffjscc.refiners.vae import VAE
from diffjscc.training.control_config import ControlConfig
from diffjscc.training.frozen import encoder_hash, tensors_hash
from diffjscc.training.latents import LatentFolder


def chosen_rates(config: ControlConfig, codec: JointCodec) -> list[Fraction]:
    """Rates at which images are sent.

    Raises:
        ValueError: one that the codec does not offer.
    """
    if config.precompute.rates is None:
        return list(codec.rates)
    rates = [parse_rate(rate) for rate in config.precompute.rates]
    for rate in rates:
        codec.rate_index(rate)
    return rates


def latent_settings(
    config: ControlConfig, images: ImageSource, codec: JointCodec, vae: VAE
) -> dict[str, Any]:
    """All settings that the latents depend on, for their index."""
    kept = config.precompute
    return {
        "images": len(images),
        "images_fingerprint": images.fingerprint,
        "codec": tensors_hash(codec),
        "vae": encoder_hash(vae),
        "scaling_factor": vae.config.scaling_factor,
        "channel": config.channel.model_dump(mode="json"),
        "bins": kept.bins,
        "rates": [str(rate) for rate in chosen_rates(config, codec)],
        "crop": config.data.crop,
        "short_side": kept.short_side,
        "captions": kept.captions,
        "seed": config.run.seed,
    }


@dataclass(frozen=True)
class ControlBatch:
    """One process's part of an iteration's images, with everything that is random about them.

    Attributes:
        clean: latents z_0 of the originals, sampled from their posteriors, float32 [b, C, n, n].
        noise: N(0, 1) of the same shape.
        t: time steps, int64 [b].
        condition: condition latents f_s [b, C, n, n].
        snr_db: effective SNR in dB, float32 [b].
        captions: b texts, empty where one is dropped.
    """

    clean: Tensor
    noise: Tensor
    t: Tensor
    condition: Tensor
    snr_db: Tensor
    captions: list[str]

    def part(self, index: int, parts: int) -> ControlBatch:
        """Part `index` of `parts` equal ones."""
        share = len(self.clean) // parts
        mine = slice(index * share, (index + 1) * share)
        return ControlBatch(
            self.clean[mine],
            self.noise[mine],
            self.t[mine],
            self.condition[mine],
            self.snr_db[mine],
            self.captions[mine],
        )


class ControlBatches:
    """The batch of every iteration, by number, as `TrainingCrops` has them for images.

    Args:
        latents: latents of the images.
        config: batch, seed, transmissions and text dropout.
        size: side of the crops, in latent positions.
        time_steps: number of the prior's time steps.
    """

    def __init__(
        self, latents: LatentFolder, config: ControlConfig, size: int, time_steps: int
    ) -> None:
        self.latents, self.config = latents, config
        self.size, self.time_steps = size, time_steps
        self.order = EpochOrder(config.run.seed, len(latents), config.run.batch)

    def names_at(self, step: int, process_index: int = 0, process_count: int = 1) -> list[str]:
        """Places of the latents of `batch_at`, in its order."""
        return [
            self.latents.name(number)
            for number in self.order.share(step, process_index, process_count)
        ]

    def batch_at(self, step: int, process_index: int = 0, process_count: int = 1) -> ControlBatch:
        """One process's part of a step's batch; `process_count` divides the batch."""
        share = self.config.run.batch // process_count
        rows = []
        for place in range(process_index * share, (process_index + 1) * share):
            # 1 + place: with a last number of 0 the stream would be that of the epoch's order.
            rng = np.random.default_rng([self.config.run.seed, step, 1 + place])
            rows.append(self._row(self.order(step, place), rng))
        clean, noise, t, condition, snr_db, captions = zip(*rows, strict=True)
        return ControlBatch(
            torch.stack(clean),
            torch.stack(noise),
            torch.tensor(t),
            torch.stack(condition),
            torch.tensor(snr_db),
            list(captions),
        )

    def _row(
        self, number: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, int, Tensor, float, str]:
        transmission = int(rng.integers(self.config.precompute.bins))
        t = int(rng.integers(self.time_steps))
        top, left, dropped = rng.random(3)
        mean, deviation = self.latents.original(number, self.size, (top, left))
        condition = self.latents.initial(number, transmission, self.size, (top, left))
        sample, noise = torch.from_numpy(rng.standard_normal((2, *mean.shape), dtype=np.float32))
        caption = self.latents.caption(number, transmission)
        if dropped < self.config.text_dropout:
            caption = ""
        snr_db = self.latents.snr_db(number, transmission)
        return mean + deviation * sample, noise, t, condition, snr_db, caption

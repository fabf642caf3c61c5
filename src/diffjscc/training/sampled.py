"""What decoder training reads: crops of photographs, and what a receiver's prior paints of them.

One crop of every image is sent once, at a rate and an SNR drawn at random, and painted from
about where the receiver would begin. What is drawn depends on (seed, image) alone, so that any
number of processes, interrupted or not, writes the same files.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffjscc.codecs.joint import JointCodec
from diffjscc.data.crops import random_crop
from diffjscc.data.sources import ImageSource, Subset
from diffjscc.refiners.conditions import Conditions
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.sampling import begin_index, gaussian
from diffjscc.scheme import Received, Scheme
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.frozen import encoder_hash, tensors_hash
from diffjscc.training.jscc import rate_shares
from diffjscc.training.latents import EpochOrder, ImageLatents, LatentFolder
from diffjscc.training.precompute import fill

# Links for which the receiver paints nothing, or next to nothing, are painted for from here.
LOWEST_LEVEL = 0.1


class LatentSampler:
    """Codec, channel and receiver, all frozen, as one function of an image.

    Args:
        config: what to send, and how.
        codec: the codec.
        refiner: the receiver.
    """

    def __init__(
        self, config: DecoderConfig, codec: JointCodec, refiner: ControlledDiffusion
    ) -> None:
        self.config, self.codec, self.refiner = config, codec, refiner
        self.shares = rate_shares(config, len(codec.rates))

    @torch.no_grad()
    def __call__(self, source: NDArray[np.uint8], number: int, text: str | None) -> ImageLatents:
        """Send and paint a crop of uint8 [H, W, 3], number `number` of its source."""
        del text  # the receiver reads none
        config, refiner = self.config, self.refiner
        rng = np.random.default_rng([config.run.seed, 4, number])
        crop = random_crop(source, config.data.crop, rng)
        snr_db, jitter = rng.uniform(*config.channel.snr_db), rng.uniform(-1, 1)
        index = int(rng.choice(len(self.shares), p=self.shares))
        seeds = rng.integers(2**62, size=2).tolist()
        fading, drawing = (torch.Generator().manual_seed(seed) for seed in seeds)

        pixels = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None]
        image = pixels.to(refiner.placement.device).float() / 255
        scheme = Scheme(self.codec, self.codec.rates[index])
        received = scheme.send(image, config.channel.at(snr_db), fading)
        initial = self.codec.decode(received)
        original, posterior = refiner.posterior(image), refiner.posterior(initial)
        own = refiner.condition_encoder is None
        conditions = Conditions(
            posterior.mean if own else refiner.condition(initial),
            refiner.usable_snr(received.snr_db),
            refiner.context(None, 1),
            posterior,
        )
        sampler, level = refiner.config.sampler, self.level(received, jitter)
        painted = refiner.sample_latents(
            conditions,
            gaussian(tuple(posterior.mean.shape), drawing, image.device),
            decode_noise=refiner.decode_noise(received),
            begin=begin_index(sampler, refiner.scheduler, level),
        )
        return ImageLatents(
            original=torch.cat((original.mean, original.deviation)).half().cpu(),
            initial=posterior.mean.half().cpu(),
            snr_db=received.snr_db.cpu(),
            rates=torch.tensor([index]),
            captions=[""],
            painted=painted.half().cpu(),
            image=pixels,
        )

    def level(self, received: Received, jitter: float) -> float:
        """Where sampling begins for one transmission; `jitter` is in [-1, 1].

        It is the receiver's own level, ± `level_jitter`, but at least `LOWEST_LEVEL`. A receiver
        that begins at pure noise has no other.
        """
        (level,) = self.refiner.start_levels(received)
        if self.refiner.config.sampler.start == "noise":
            return level
        shifted = level + jitter * self.config.painted.level_jitter
        return float(np.clip(shifted, LOWEST_LEVEL, 1))


def settings(
    config: DecoderConfig,
    images: ImageSource,
    codec: JointCodec,
    refiner: ControlledDiffusion,
) -> dict[str, Any]:
    """What painted latents depend on, for their index."""
    vae, condition, painting = refiner.vae, refiner.condition_encoder, refiner.config
    kept = {
        "images": len(images),
        "images_fingerprint": images.fingerprint,
        "codec": tensors_hash(codec),
        "vae": encoder_hash(vae),
        "scaling_factor": vae.config.scaling_factor,
        "condition": encoder_hash(vae if condition is None else condition),
        "prior": tensors_hash(refiner.denoiser.unet),
        "control": tensors_hash(refiner.denoiser.control),
        **asdict(painting.sampler),
        "latent_guidance": asdict(painting.latent_guidance),
        "control_scale": painting.control_scale,
        "control_guidance_scale": painting.control_guidance_scale,
        "decode_noise": painting.decode_noise,
        "channel": config.channel.model_dump(mode="json"),
        "rate_shares": rate_shares(config, len(codec.rates)),
        "crop": config.data.crop,
        "level_jitter": config.painted.level_jitter,
        "seed": config.run.seed,
    }
    read_back: dict[str, Any] = json.loads(json.dumps(kept))  # as the index is compared
    return read_back


def paint(
    config: DecoderConfig,
    images: ImageSource,
    codec: JointCodec,
    refiner: ControlledDiffusion,
) -> LatentFolder:
    """What `config.painted.folder` holds; what it lacks is painted first.

    Raises:
        ValueError: it holds what was painted with other settings.
        OSError: it cannot be written.
    """
    count = min(config.painted.images, len(images))
    rng = np.random.default_rng([config.run.seed, 5])
    chosen = sorted(rng.permutation(len(images))[:count].tolist())
    subset = Subset(images, chosen)
    expected = settings(config, subset, codec, refiner)
    fill(config.painted.folder, expected, subset, LatentSampler(config, codec, refiner))
    return LatentFolder(config.painted.folder, expected)


class SampledBatches:
    """Images and latents of every iteration, by number, as `TrainingCrops` has crops.

    Args:
        painted: what was painted.
        config: seed, batch, and which latents are shown.
        cell: pixels per latent cell and side.
    """

    def __init__(self, painted: LatentFolder, config: DecoderConfig, cell: int) -> None:
        self.painted, self.config, self.cell = painted, config, cell
        self.order = EpochOrder(config.run.seed, len(painted), config.run.batch)

    def batch_at(
        self, step: int, process_index: int = 0, process_count: int = 1
    ) -> tuple[Tensor, Tensor]:
        """One process's images [b, 3, n, n] in [0, 1] and latents [b, C, h, h], float32."""
        share = self.config.run.batch // process_count
        rows = []
        for place in range(process_index * share, (process_index + 1) * share):
            rng = np.random.default_rng([self.config.run.seed, step, 1 + place])
            rows.append(self._row(self.order(step, place), rng))
        images, latents = zip(*rows, strict=True)
        return torch.stack(images), torch.stack(latents)

    def _row(self, number: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        shares, size = self.config.shares, self.config.shown // self.cell
        corner = (rng.random(), rng.random())
        kind = rng.choice(3, p=(shares.painted, shares.original, shares.initial))
        if kind == 0:
            latent = self.painted.painted(number, 0, size, corner)
        elif kind == 1:
            latent = self.painted.original(number, size, corner)[0]
        else:
            latent = self.painted.initial(number, 0, size, corner)
        return self.painted.image(number, size, corner, self.cell), latent

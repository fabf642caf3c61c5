"""Latents sampled by a receiver's prior, which training reads, and the crops behind them.

One crop of every image is sent once, at a random rate and SNR, and sampling begins at about the
receiver's own start level. Random numbers are functions of (seed, image), so any number of
processes, interrupted or not, writes the same files.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffjscc.codecs.joint import JointCodec
from diffjscc.data.sources import ImageSource, Subset
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.refiners.conditions import Conditions
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.prior import start_levels
from diffjscc.refiners.sampling import begin_index, gaussian
from diffjscc.scheme import Scheme
from diffjscc.symbols import Received
from diffjscc.training.augmentation import augmented_crop
from diffjscc.training.frozen import encoder_hash, tensors_hash
from diffjscc.training.latent_writing import fill
from diffjscc.training.latents import ImageLatents, LatentFolder
from diffjscc.training.sampled_config import SampledStageConfig
from diffjscc.training.transmission import rate_probabilities

# Lowest start level: over good links the receiver samples little or nothing.
LOWEST_LEVEL = 0.1


def load_receiver(source: str, device: torch.device) -> tuple[JointCodec, ControlledDiffusion]:
    """Load codec and diffusion receiver of weights, float32.

    Raises:
        ValueError: the weights are missing, damaged or without a receiver.
    """
    scheme = DiffJSCC.from_pretrained(source, device=str(device), dtype=torch.float32)
    if not isinstance(scheme.refiner, ControlledDiffusion):
        raise ValueError(  # noqa: TRY004 - of other weights, not a wrong call
            f'weights "{source}" have no diffusion receiver, which could be trained; give '
            "weights that have one, such as `diffjscc train control` writes"
        )
    assert isinstance(scheme.codec, JointCodec)
    return scheme.codec, scheme.refiner


class LatentSampler:
    """Codec, channel and receiver, all frozen, as one function of an image.

    Args:
        config: settings.
        codec: the codec.
        refiner: the receiver.
        decoded: whether the latents are those that are decoded; otherwise as the sampler left
            them, without `DiffusionConfig.decode_noise` and `texture_span`.
    """

    def __init__(
        self,
        config: SampledStageConfig,
        codec: JointCodec,
        refiner: ControlledDiffusion,
        decoded: bool,
    ) -> None:
        self.config, self.codec, self.refiner = config, codec, refiner
        self.decoded = decoded
        self.probabilities = rate_probabilities(config.rate_shares, codec.rates)

    @torch.no_grad()
    def __call__(self, source: NDArray[np.uint8], number: int, text: str | None) -> ImageLatents:
        """Send a crop of image `number`, uint8 [H, W, 3], and sample a latent for it."""
        del text  # the receiver reads none
        config, refiner = self.config, self.refiner
        rng = np.random.default_rng([config.run.seed, 4, number])
        crop = augmented_crop(source, config.data.crop, rng, config.augmentation)
        snr_db, jitter = rng.uniform(*config.channel.snr_db), rng.uniform(-1, 1)
        index = int(rng.choice(len(self.probabilities), p=self.probabilities))
        seeds = rng.integers(2**62, size=2).tolist()
        noise, start = (torch.Generator().manual_seed(seed) for seed in seeds)

        pixels = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None]
        image = pixels.to(refiner.placement.device).float() / 255
        scheme = Scheme(self.codec, self.codec.rates[index])
        received = scheme.send(image, config.channel.at(snr_db), noise)
        initial, received, _ = scheme.attempt(received)
        original, posterior = refiner.posterior(image), refiner.posterior(initial)
        own = refiner.condition_encoder is None
        condition = posterior.mean if own else refiner.condition(initial)
        conditions = Conditions(
            condition,
            refiner.usable_snr(received.snr_db),
            refiner.context(None, 1),
            posterior,
            refiner.kept(received, condition) if self.decoded else None,
        )
        sampler, level = refiner.config.sampler, self.level(received, jitter)
        begin = begin_index(sampler, refiner.scheduler, level)
        later = gaussian(tuple(posterior.mean.shape), start, image.device)
        first = later().half()  # as it is stored
        noise_source = chain((first.float(),), (later() for _ in count())).__next__
        latent = refiner.sample_latents(
            conditions,
            noise_source,
            decode_noise=refiner.decode_noise(received) if self.decoded else (),
            begin=begin,
        )
        return ImageLatents(
            original=torch.cat((original.mean, original.deviation)).half().cpu(),
            initial=posterior.mean.half().cpu(),
            snr_db=received.snr_db.cpu(),
            rates=torch.tensor([index]),
            captions=[""],
            sampled=latent.half().cpu(),
            image=pixels,
            noise=None if self.decoded else first.cpu(),
            begin=None if self.decoded else torch.tensor([begin]),
        )

    def level(self, received: Received, jitter: float) -> float:
        """Level at which sampling begins for one transmission; `jitter` is in [-1, 1].

        It is the receiver's own level, ± `level_jitter`, but at least `LOWEST_LEVEL`. A receiver
        that begins at pure noise has no other.
        """
        (level,) = start_levels(self.refiner.config.sampler, received)  # at full strength
        if self.refiner.config.sampler.start == "noise":
            return level
        shifted = level + jitter * self.config.sampled.level_jitter
        return float(np.clip(shifted, LOWEST_LEVEL, 1))


def sampled_settings(
    config: SampledStageConfig,
    images: ImageSource,
    codec: JointCodec,
    refiner: ControlledDiffusion,
    decoded: bool,
) -> dict[str, Any]:
    """All settings that sampled latents depend on, for their index."""
    vae, condition, options = refiner.vae, refiner.condition_encoder, refiner.config
    kept = {
        "images": len(images),
        "images_fingerprint": images.fingerprint,
        "codec": tensors_hash(codec),
        "vae": encoder_hash(vae),
        "scaling_factor": vae.config.scaling_factor,
        "condition": encoder_hash(vae if condition is None else condition),
        "prior": tensors_hash(refiner.denoiser.unet),
        "control": tensors_hash(refiner.denoiser.control),
        "distilled": None
        if refiner.denoiser.distilled is None
        else tensors_hash(refiner.denoiser.distilled),
        **asdict(options.sampler),
        "latent_guidance": asdict(options.latent_guidance),
        "control_scale": options.control_scale,
        "control_guidance_scale": options.control_guidance_scale,
        "decoded": decoded,
        "decode_noise": options.decode_noise if decoded else (),
        "texture_span": options.texture_span if decoded else None,
        "channel": config.channel.model_dump(mode="json"),
        "rate_shares": rate_probabilities(config.rate_shares, codec.rates),
        "crop": config.data.crop,
        "augmentation": config.augmentation.model_dump(mode="json"),
        "level_jitter": config.sampled.level_jitter,
        "seed": config.run.seed,
    }
    read_back: dict[str, Any] = json.loads(json.dumps(kept))  # as the index is compared
    return read_back


def sample_folder(
    config: SampledStageConfig,
    images: ImageSource,
    codec: JointCodec,
    refiner: ControlledDiffusion,
    decoded: bool,
) -> LatentFolder:
    """Open the latents in `config.sampled.folder`; those that it lacks are sampled first.

    `decoded`: see `LatentSampler`.

    Raises:
        ValueError: it holds latents that were sampled with other settings.
        OSError: it cannot be written.
    """
    count = min(config.sampled.images, len(images))
    rng = np.random.default_rng([config.run.seed, 5])
    chosen = sorted(rng.permutation(len(images))[:count].tolist())
    subset = Subset(images, chosen)
    expected = sampled_settings(config, subset, codec, refiner, decoded)
    fill(config.sampled.folder, expected, subset, LatentSampler(config, codec, refiner, decoded))
    return LatentFolder(config.sampled.folder, expected)

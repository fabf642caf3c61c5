"""Compute the latents that control training reads: `diffjscc precompute`.

Every image is sent once in each part of the SNR range; the latents of the image and of its initial
images are kept, and captions. Random numbers are functions of (seed, image), so any number of
processes, interrupted or not, writes the same files.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor

from diffjscc.codecs.joint import JointCodec
from diffjscc.pretrained.pretrained import load_codec
from diffjscc.pretrained.sources import split_revision
from diffjscc.refiners.captions import Blip2Captioner, Captioner
from diffjscc.refiners.devices import check_build
from diffjscc.refiners.latents import encode, stride
from diffjscc.refiners.vae import VAE
from diffjscc.scheme import Scheme
from diffjscc.training.control_config import ControlConfig
from diffjscc.training.control_latents import chosen_rates, latent_settings
from diffjscc.training.frozen import has_text, load_scheduler, load_vae
from diffjscc.training.images import open_images
from diffjscc.training.latent_writing import TILE, fill, fitted
from diffjscc.training.latents import ImageLatents
from diffjscc.training.processes import PATIENCE


class Precomputation:
    """Codec, channel, VAE and captioner, all frozen, as one function of an image.

    Args:
        config: settings.
        codec: the codec.
        vae: the prior's VAE.
        captioner: describes initial images; None takes the source's captions, or none.
    """

    def __init__(
        self,
        config: ControlConfig,
        codec: JointCodec,
        vae: VAE,
        captioner: Captioner | None,
    ) -> None:
        self.config, self.codec, self.vae, self.captioner = config, codec, vae, captioner
        self.rates = chosen_rates(config, codec)

    def conditions(self, number: int) -> tuple[Tensor, list[Fraction], list[int]]:
        """SNR in dB [N], rates and noise seeds of the N transmissions of image `number`.

        One SNR in each bin. Rates take turns, beginning with a random one, so that over all images
        every bin has every rate equally often.
        """
        bins = self.config.precompute.bins
        low, high = self.config.channel.snr_db
        rng = np.random.default_rng([self.config.run.seed, 2, number])
        snr_db = low + (np.arange(bins) + rng.random(bins)) * (high - low) / bins
        first = int(rng.integers(len(self.rates)))
        rates = [self.rates[(first + n) % len(self.rates)] for n in range(bins)]
        return torch.from_numpy(snr_db).float(), rates, rng.integers(2**62, size=bins).tolist()

    @torch.no_grad()
    def __call__(self, pixels: NDArray[np.uint8], number: int, text: str | None) -> ImageLatents:
        """Compute the latents of image `number`, uint8 [H, W, 3]; `text` is its own caption."""
        image = fitted(
            pixels,
            self.config.data.crop,
            self.config.precompute.short_side,
            stride(self.vae),
        ).to(self.vae.device)
        snr_db, rates, seeds = self.conditions(number)
        initial = image.repeat(len(rates), 1, 1, 1)
        effective = torch.empty_like(snr_db)
        for rate in sorted(set(rates)):
            rows = [n for n, own in enumerate(rates) if own == rate]
            scheme = Scheme(self.codec, rate)
            channel = self.config.channel.at(snr_db[rows].to(image.device))
            generators = [torch.Generator().manual_seed(seeds[n]) for n in rows]
            received = scheme.send(initial[rows], channel, generators)
            initial[rows] = self.codec.decode(received)
            effective[rows] = received.snr_db.cpu()
        posterior = encode(self.vae, image, TILE)
        if self.captioner is not None:
            captions = self.captioner(initial)
        else:
            words = text if self.config.precompute.captions == "source" else None
            captions = [words or ""] * len(rates)
        return ImageLatents(
            original=torch.cat((posterior.mean, posterior.deviation)).half().cpu(),
            initial=encode(self.vae, initial, TILE).mean.half().cpu(),
            snr_db=effective,
            rates=torch.tensor([self.codec.rate_index(rate) for rate in rates]),
            captions=captions,
        )


def make_captioner(config: ControlConfig, device: torch.device) -> Captioner | None:
    """Load BLIP-2 to `device`, if it is configured.

    Raises:
        ValueError: captions for a prior without a text encoder, or BLIP-2 cannot be loaded.
    """
    kept = config.precompute
    if kept.captions != "none" and not has_text(config.prior):
        raise ValueError(
            f"precompute.captions is {kept.captions!r}, but the prior {config.prior!r} has no text "
            "encoder; set it to none"
        )
    if kept.captions != "blip2":
        return None
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    if kept.blip2 is None:
        captioner = Blip2Captioner.from_pretrained(dtype=dtype)
    else:
        local = Path(kept.blip2).is_dir()
        place, revision = (kept.blip2, None) if local else split_revision(kept.blip2)
        captioner = Blip2Captioner.from_pretrained(place, revision, dtype)
    captioner.module.to(device)
    return captioner


def precompute(config: ControlConfig) -> Path:
    """Compute the latents that `config` asks for, or those of them that are missing.

    Returns:
        The folder, `config.precompute.folder`.

    Raises:
        ValueError: the folder holds latents computed with other settings, a setting is wrong, or
            the prior does not predict noise.
        CaptionerError: the captioner cannot be had.
        OSError: the folder cannot be written.
    """
    device = PartialState(timeout=PATIENCE).device
    check_build(device)
    # Refuses before any work a prior that training would refuse.
    load_scheduler(config.prior, config.prior_prediction)
    images, _ = open_images(config.data)
    codec, vae = load_codec(config.codec, device=device), load_vae(config.prior)
    compute = Precomputation(config, codec, vae.to(device), make_captioner(config, device))
    expected = latent_settings(config, images, codec, vae)
    fill(config.precompute.folder, expected, images, compute)
    return config.precompute.folder

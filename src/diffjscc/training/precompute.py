"""Send every training picture over the channel once and for all: `diffjscc precompute`.

Every picture is sent once in each part of the SNR range; kept are the latents of the picture and
of its initial pictures, and captions. What is drawn depends on (seed, picture, bin) alone, so
that any number of processes, interrupted or not, writes the same files.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from diffjscc.codecs.joint import JointCodec
from diffjscc.data.files import remove_abandoned
from diffjscc.data.pictures import PictureError
from diffjscc.data.sources import PictureSource
from diffjscc.models.diffjscc import parse_rate
from diffjscc.models.pretrained import load_codec
from diffjscc.models.storage import write_json
from diffjscc.refiners.captions import Blip2Captioner, Captioner, CaptionerError
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.latents import encode, stride
from diffjscc.refiners.vae import VAE
from diffjscc.scheme import Scheme
from diffjscc.training.config import ControlConfig
from diffjscc.training.frozen import encoder_hash, has_text, load_scheduler, load_vae, tensors_hash
from diffjscc.training.latents import (
    INDEX,
    PART,
    PictureLatents,
    check_index,
    part_count,
    part_path,
    write_part,
)
from diffjscc.training.pictures import open_pictures

TILE = DiffusionConfig().tile


def chosen_rates(config: ControlConfig, codec: JointCodec) -> list[Fraction]:
    """The rates that pictures are sent at.

    Raises:
        ValueError: one that the codec does not offer.
    """
    if config.precompute.rates is None:
        return list(codec.rates)
    rates = [parse_rate(rate) for rate in config.precompute.rates]
    for rate in rates:
        codec.rate_index(rate)
    return rates


def settings(
    config: ControlConfig, pictures: PictureSource, codec: JointCodec, vae: VAE
) -> dict[str, Any]:
    """What the latents depend on, for their index."""
    kept = config.precompute
    return {
        "pictures": len(pictures),
        "pictures_fingerprint": pictures.fingerprint,
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


def fitted(picture: NDArray[np.uint8], smallest: int, largest: int | None, multiple: int) -> Tensor:
    """A picture of a size that latents are made for.

    Args:
        picture: uint8 [H, W, 3].
        smallest: a shorter short side is enlarged to this, in pixels.
        largest: a longer short side is reduced to this, in pixels; None keeps it.
        multiple: right and bottom are cut to multiples of this, in pixels.

    Returns:
        float32 [1, 3, H', W'] in [0, 1].
    """
    short = min(picture.shape[:2])
    target = max(short if largest is None else min(short, largest), smallest)
    if target != short:
        height, width = (round(n * target / short) for n in picture.shape[:2])
        resized = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
        picture = np.asarray(resized)
    height, width = (n // multiple * multiple for n in picture.shape[:2])
    pixels = torch.from_numpy(picture[:height, :width].copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


class Precomputation:
    """Codec, channel, VAE and captioner, all frozen, as one function of a picture.

    Args:
        config: what to send, and how.
        codec: the codec.
        vae: the prior's VAE.
        captioner: describes initial pictures; None takes what the source says, or nothing.
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

    def draws(self, number: int) -> tuple[Tensor, list[Fraction], list[int]]:
        """SNR in dB [N], rates and noise seeds of the N transmissions of picture `number`.

        One SNR in each bin. Rates take turns from one that is drawn, so that over all pictures
        every bin sees every rate alike.
        """
        bins = self.config.precompute.bins
        low, high = self.config.channel.snr_db
        rng = np.random.default_rng([self.config.run.seed, 2, number])
        snr_db = low + (np.arange(bins) + rng.random(bins)) * (high - low) / bins
        first = int(rng.integers(len(self.rates)))
        rates = [self.rates[(first + n) % len(self.rates)] for n in range(bins)]
        return torch.from_numpy(snr_db).float(), rates, rng.integers(2**62, size=bins).tolist()

    @torch.no_grad()
    def __call__(self, picture: NDArray[np.uint8], number: int, text: str | None) -> PictureLatents:
        """Send uint8 [H, W, 3], number `number` of its source, with the text that it came with."""
        image = fitted(
            picture,
            self.config.data.crop,
            self.config.precompute.short_side,
            stride(self.vae),
        ).to(self.vae.device)
        snr_db, rates, seeds = self.draws(number)
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
        return PictureLatents(
            original=torch.cat((posterior.mean, posterior.deviation)).half().cpu(),
            initial=encode(self.vae, initial, TILE).mean.half().cpu(),
            snr_db=effective,
            rates=torch.tensor([self.codec.rate_index(rate) for rate in rates]),
            captions=captions,
        )


def make_captioner(config: ControlConfig, device: torch.device) -> Captioner | None:
    """BLIP-2 on `device`, if it is configured.

    Raises:
        ValueError: captions are configured for a prior that reads none, or BLIP-2 cannot be had.
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
    try:
        if kept.blip2 is None:
            captioner = Blip2Captioner.from_pretrained(dtype=dtype)
        else:
            captioner = Blip2Captioner.from_pretrained(kept.blip2, None, dtype)
    except CaptionerError as error:
        raise ValueError(str(error)) from error
    captioner.module.to(device)
    return captioner


def fill(
    folder: Path,
    expected: dict[str, Any],
    pictures: PictureSource,
    work: Callable[[NDArray[np.uint8], int, str | None], PictureLatents],
) -> None:
    """Write the parts that `folder` lacks; several processes share them.

    Args:
        folder: made if need be. Each part is written at once, complete or not at all.
        expected: what the latents depend on, for the index.
        pictures: one that cannot be read is left out, with a warning.
        work: from a picture uint8 [H, W, 3], its number and the text that it came with.

    Raises:
        ValueError: the folder holds latents made with other settings.
    """
    state = PartialState()
    with state.main_process_first():
        if (folder / INDEX).exists():
            check_index(folder, expected)
        elif state.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / INDEX, expected)
    # Shared by number, not by what is left: others may be writing while this one looks.
    mine = range(state.process_index, part_count(len(pictures)), state.num_processes)
    numbers = {n: range(n * PART, min((n + 1) * PART, len(pictures))) for n in mine}
    with Progress(console=Console(stderr=True), disable=not state.is_main_process) as bar:
        task = bar.add_task("precomputing", total=sum(map(len, numbers.values())))

        def latents(part: range) -> Iterator[PictureLatents]:
            for number in part:
                try:
                    yield work(pictures[number], number, pictures.caption(number))
                except PictureError as error:
                    warnings.warn(f"left out: {error}", stacklevel=2)
                bar.advance(task)

        for number, part in numbers.items():
            path = part_path(folder, number)
            if path.exists():
                bar.advance(task, len(part))
                continue
            remove_abandoned(path)
            write_part(path, latents(part))
    state.wait_for_everyone()


def precompute(config: ControlConfig) -> Path:
    """Write the latents that `config` asks for, or go on writing them.

    Returns:
        The folder, `config.precompute.folder`.

    Raises:
        ValueError: the folder holds latents made with other settings, a setting is wrong, or the
            prior does not predict noise.
        CaptionerError: the captioner cannot be had.
        OSError: the folder cannot be written.
    """
    device = PartialState().device
    load_scheduler(config.prior)  # refuses a prior that control training would refuse, at once
    pictures, _ = open_pictures(config.data)
    codec, vae = load_codec(config.codec, device=device), load_vae(config.prior)
    work = Precomputation(config, codec, vae.to(device), make_captioner(config, device))
    fill(config.precompute.folder, settings(config, pictures, codec, vae), pictures, work)
    return config.precompute.folder

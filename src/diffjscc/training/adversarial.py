"""Train a joint source-channel codec against a discriminator: `diffjscc train adversarial`.

The rival that the paper calls DeepJSCC-adv: the codec reduces MSE + α·(what a patch discriminator
holds against its images), the discriminator learns to tell them from photographs. By default
both ends are trained, so that what is sent may change too. SNRs, noise and crops are functions of
(seed, iteration), as in `jscc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.progress import Progress
from torch import Tensor, nn

from diffjscc.codecs.joint import JointCodec
from diffjscc.configuration import as_yaml
from diffjscc.data.crops import TrainingCrops, prefetch
from diffjscc.data.sources import ImageSource
from diffjscc.metrics.fidelity import psnr
from diffjscc.metrics.lpips import LPIPS
from diffjscc.pretrained.build import build_codec, describe_codec
from diffjscc.pretrained.pretrained import load_codec, save_codec
from diffjscc.pretrained.storage import WeightsError
from diffjscc.scheme import Scheme
from diffjscc.training.config import AdversarialConfig
from diffjscc.training.discriminator import PatchDiscriminator, generator_loss, hinge_loss
from diffjscc.training.frozen import load_lpips
from diffjscc.training.jscc import TrainingLevels, conditions, distortion, rate_shares, sent_rates
from diffjscc.training.link import deliver
from diffjscc.training.loop import (
    Log,
    Optimiser,
    Run,
    RunningMean,
    learning_rate_at,
    leave,
    swap_weights,
)
from diffjscc.training.validation import open_images


class AdversarialLosses(nn.Module):
    """Codec and discriminator, and the losses of both; what a data-parallel wrapper wraps.

    Args:
        codec: the codec in training.
        discriminator: its opponent.
        config: the channel, and how the losses are weighed.
    """

    def __init__(
        self, codec: JointCodec, discriminator: nn.Module, config: AdversarialConfig
    ) -> None:
        super().__init__()
        self.trained = nn.ModuleDict({"codec": codec, "discriminator": discriminator})
        self.codec, self.discriminator = codec, discriminator
        self.config = config

    def forward(
        self, images: Tensor, snr_db: Tensor, rates: Tensor, seeds: Tensor, step: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name and the images' MSE [B]; "total" is what is reduced.

        The total's gradient improves the codec against the discriminator and the discriminator
        against the codec: neither part of it reaches the other's weights.

        Args:
            images: float32 [B, 3, H, W] in [0, 1].
            snr_db: see `deliver`, as for `rates` and `seeds`.
            rates: int64 [B].
            seeds: int64 [B].
            step: number of the iteration, from 0.
        """
        delivered = deliver(self.codec, self.config.channel, images, snr_db, rates, seeds)
        mse = (delivered - images).square().mean(dim=(1, 2, 3))
        real, fake = 2 * images - 1, 2 * delivered - 1
        losses = {
            "distortion": distortion(mse, self.config.loss),
            "adversarial": generator_loss(self.discriminator, fake),
            "discriminator": hinge_loss(
                self.discriminator(real), self.discriminator(fake.detach())
            ),
        }
        opponent = self.config.adversary
        weight = opponent.weight if step >= opponent.start else 0.0
        total = losses["distortion"] + weight * losses["adversarial"] + losses["discriminator"]
        return {"total": total, **losses}, mse


def build(config: AdversarialConfig, init: str | None) -> AdversarialLosses:
    """The networks at the start of a run; `init` is described at `train`.

    Raises:
        WeightsError: the weights are missing, damaged or of another architecture.
    """
    codec = build_codec(config.codec)
    if init is not None:
        start_from(codec, init)
    if config.freeze_encoder:
        assert codec.encoder is not None
        codec.encoder.requires_grad_(False)
    return AdversarialLosses(codec, PatchDiscriminator(config.adversary.width), config)


def start_from(codec: JointCodec, source: str) -> None:
    """Give a codec the numbers of an earlier one, which may have been trained for other SNRs.

    Raises:
        WeightsError: it is missing, damaged or of another architecture.
    """
    earlier = load_codec(source)
    ours, theirs = describe_codec(codec), describe_codec(earlier)
    for name in sorted(theirs.keys() - {"snr_range_db"}):
        if ours.get(name) != theirs[name]:
            raise WeightsError(
                f"the codec of {source} has {name} {theirs[name]}, the config {ours.get(name)}; "
                f"set codec.{name} to start from it"
            )
    codec.load_state_dict(earlier.state_dict())


def training_mode(game: AdversarialLosses) -> None:
    """Training mode, but for an encoder that is to stay: its batch norms are not to move."""
    game.train()
    assert game.codec.encoder is not None
    game.codec.encoder.train(not game.config.freeze_encoder)


@torch.no_grad()
def validate(
    game: AdversarialLosses,
    rates: Sequence[Fraction],
    source: ImageSource,
    lpips: LPIPS | None,
    log: Log,
    step: int,
) -> None:
    """PSNR and LPIPS of whole images at `rates`, at the ends and the middle of the SNR range."""
    config, device = game.config, next(game.parameters()).device
    low, high = config.channel.snr_db
    for rate in rates:
        for snr_db in (low, (low + high) / 2, high):
            place = f"rate {rate} at {snr_db:g} dB"
            values: dict[str, list[float]] = {}
            for number in range(min(config.data.validation_images, len(source))):
                pixels = torch.from_numpy(source[number].copy()).permute(2, 0, 1)[None]
                original = pixels.to(device).float() / 255
                noise = torch.Generator().manual_seed(number)
                image = Scheme(game.codec, rate)(original, config.channel.at(snr_db), noise).image
                values.setdefault(f"psnr/{place}", []).append(psnr(image, original).item())
                if lpips is not None:
                    values.setdefault(f"lpips/{place}", []).append(lpips(image, original).item())
                if number == 0:
                    log.images(step, place, torch.cat((original, image)))
            log.numbers(step, {name: float(np.mean(each)) for name, each in values.items()})


class TrainingMetrics:
    """Mean losses, and PSNR by rate, of this process's training images since the last report."""

    def __init__(self, rates: Sequence[Fraction]) -> None:
        self.losses = RunningMean()
        self.levels = TrainingLevels(rates)

    def add(self, losses: dict[str, Tensor], rates: Tensor, mse: Tensor) -> None:
        """Count an iteration: its losses, and its images' rate indices [B] and MSEs [B]."""
        self.losses.add(losses)
        self.levels.add(rates, mse)

    def report(self) -> dict[str, float]:
        """The means by name; starts anew."""
        return self.losses.report() | self.levels.report()


def train(config: AdversarialConfig, output: Path, init: str | None = None) -> Path:
    """Train, or go on training, in the folder `output`.

    Args:
        config: what to train, on what, and how.
        output: gets `checkpoint.pt`, `log.jsonl`, `tensorboard/`, `config.yaml` and `weights/`.
        init: weights whose codec to start from (name, folder or hub id). Without it both networks
            start from random numbers.

    Returns:
        The folder of the exported, averaged codec.

    Raises:
        ValueError: a setting or weights that do not fit.
    """
    training, validation = open_images(config.data)
    accelerator = Accelerator(mixed_precision=config.run.precision)
    device, main = accelerator.device, accelerator.is_main_process
    share = accelerator.process_index, accelerator.num_processes
    crops = TrainingCrops(training, config.data.crop, config.run.seed, config.run.batch)

    set_seed(config.run.seed)
    built = build(config, init).to(device)
    codec, networks = built.codec, built.trained
    shares = rate_shares(config, len(codec.rates))
    output.mkdir(parents=True, exist_ok=True)
    run = Run(networks, Optimiser(networks, config.optimiser), config, output)
    start, last = run.restore(), config.run.iterations
    game = accelerator.prepare(built)
    log = Log(output, start, as_yaml(config)) if main else None
    lpips = load_lpips(device) if main and validation else None
    trained = sent_rates(config, codec)
    account = TrainingMetrics(codec.rates)
    training_mode(built)
    with Progress(disable=not main) as progress:
        task = progress.add_task("training", total=last, completed=start)
        batches = prefetch(lambda step: crops.batch_at(step, *share), start, last - start)
        for step, images in enumerate(batches, start):
            snr_db, rates, seeds = conditions(config, shares, step, *share)
            rate = learning_rate_at(step, last, config.optimiser)
            losses, mse = game(images.to(device), snr_db.to(device), rates, seeds, step)
            accelerator.backward(losses["total"])
            if config.optimiser.clip is not None:
                accelerator.clip_grad_norm_(codec.parameters(), config.optimiser.clip)
            run.optimiser.step(rate)
            run.averaged.update(networks, step)

            done = step + 1
            progress.update(task, completed=done)
            if log is None:
                continue
            account.add(losses, rates, mse)
            if done % config.run.log_every == 0:
                log.numbers(done, {"learning rate": rate} | account.report())
            if done == last or done % config.run.checkpoint_every == 0:
                run.save(done)
            if validation and (done == last or done % config.run.validate_every == 0):
                with swap_weights(networks, run.averaged.state):
                    validate(built, trained, validation, lpips, log, done)
                training_mode(built)
    if log is not None:
        log.close()
        with swap_weights(networks, run.averaged.state):
            save_codec(codec, output / "weights")
    leave(accelerator)
    return output / "weights"

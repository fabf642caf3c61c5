"""Train a joint source-channel codec: `diffjscc train jscc`.

One iteration sends a batch of crops through the path that users take (encode, channel, decode)
and reduces the distortion. Images, crops, SNRs and noise are functions of (seed, iteration),
so a run that was killed goes on exactly as if it had not been, and N processes train on the
batches that one would.
"""

from __future__ import annotations

import math
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
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.pretrained import load_codec, save_codec
from diffjscc.scheme import Scheme
from diffjscc.training.config import JSCCConfig, LossConfig, TrainingChannelConfig
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.link import deliver
from diffjscc.training.loop import (
    Log,
    Optimiser,
    Run,
    learning_rate_at,
    leave,
    swap_weights,
)
from diffjscc.training.validation import open_images


class Transmission(nn.Module):
    """One differentiable pass over the link; what a data-parallel wrapper wraps.

    Args:
        codec: the codec in training.
        channel: what to train over.
    """

    def __init__(self, codec: JointCodec, channel: TrainingChannelConfig) -> None:
        super().__init__()
        self.codec = codec
        self.channel = channel

    def forward(self, images: Tensor, snr_db: Tensor, rates: Tensor, seeds: Tensor) -> Tensor:
        """MSE per image [B] of images [B, 3, H, W] at SNRs, rate indices and noise seeds [B]."""
        delivered = deliver(self.codec, self.channel, images, snr_db, rates, seeds)
        return (delivered - images).square().mean(dim=(1, 2, 3))


def distortion(mse: Tensor, config: LossConfig) -> Tensor:
    """The loss of a batch from its images' MSE [B]."""
    return mse.mean() if config.name == "mse" else torch.log(mse + config.floor).mean()


def rate_shares(config: JSCCConfig | DecoderConfig, rates: int) -> list[float]:
    """Probability of each rate, ascending.

    Raises:
        ValueError: not one for each rate, or they do not add up to 1.
    """
    if config.rate_shares is None:
        return [1 / rates] * rates
    shares = list(config.rate_shares)
    if len(shares) != rates or not math.isclose(sum(shares), 1):
        raise ValueError(f"rate_shares are {shares}; give {rates} numbers that add up to 1")
    return shares


def sent_rates(config: JSCCConfig | DecoderConfig, codec: JointCodec) -> list[Fraction]:
    """The codec's rates that images are sent at, ascending."""
    shares = rate_shares(config, len(codec.rates))
    return [rate for rate, share in zip(codec.rates, shares, strict=True) if share > 0]


def conditions(
    config: JSCCConfig, shares: list[float], step: int, process: int, processes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """SNR in dB, rate index and noise seed [b] of this process's images in iteration `step`."""
    low, high = config.channel.snr_db
    generator = np.random.default_rng([config.run.seed, 1, step])
    snr_db = generator.uniform(low, high, config.run.batch)
    rates = generator.choice(len(shares), config.run.batch, p=shares)
    seeds = generator.integers(2**62, size=config.run.batch)
    share = config.run.batch // processes  # as TrainingCrops shares images
    mine = slice(process * share, (process + 1) * share)
    return (
        torch.from_numpy(snr_db[mine]).float(),
        torch.from_numpy(rates[mine]),
        torch.from_numpy(seeds[mine]),
    )


@torch.no_grad()
def validate(
    codec: JointCodec, source: ImageSource, config: JSCCConfig, log: Log, step: int
) -> None:
    """PSNR on whole images at every rate, at the ends and the middle of the SNR range."""
    low, high = config.channel.snr_db
    originals = [
        torch.from_numpy(source[i].copy()).permute(2, 0, 1)[None].float() / 255
        for i in range(min(config.data.validation_images, len(source)))
    ]
    device = next(codec.parameters()).device
    for rate in codec.rates:
        scheme = Scheme(codec, rate)
        for snr_db in (low, (low + high) / 2, high):
            channel = config.channel.at(snr_db)
            values = []
            for number, original in enumerate(originals):
                generator = torch.Generator().manual_seed(number)
                image = scheme(original.to(device), channel, generator).image
                values.append(psnr(image, original.to(device)).item())
                if number == 0 and snr_db == low:
                    shown = torch.cat((original.to(device), image))
                    log.images(step, f"rate {rate} at {snr_db:g} dB", shown)
            name = f"psnr/rate {rate} at {snr_db:g} dB"
            log.numbers(step, {name: float(np.mean(values))})


class TrainingLevels:
    """Mean PSNR of the training images since the last report, by rate."""

    def __init__(self, rates: Sequence[Fraction]) -> None:
        self.rates = rates
        self.totals = torch.zeros(2, len(rates))

    def add(self, rates: Tensor, mse: Tensor) -> None:
        """Count images of these rate indices [B] and MSEs [B]."""
        self.totals[0].index_add_(0, rates, mse.detach().cpu())
        self.totals[1].index_add_(0, rates, torch.ones(len(rates)))

    def report(self) -> dict[str, float]:
        """PSNR of the mean MSE in dB, of every rate that was sent; starts anew."""
        levels = -10 * torch.log10(self.totals[0] / self.totals[1])
        named = zip(self.rates, levels.tolist(), strict=True)
        self.totals.zero_()
        return {f"training psnr/rate {r}": level for r, level in named if not math.isnan(level)}


def train(config: JSCCConfig, output: Path, init: str | None = None) -> Path:
    """Train, or go on training, in the folder `output`.

    Args:
        config: what to train, on what, and how.
        output: gets `checkpoint.pt`, `log.jsonl`, `tensorboard/`, `config.yaml` and `weights/`.
        init: weights to start from (name, folder or hub id) instead of random ones.

    Returns:
        The folder of the exported, averaged weights.
    """
    training, validation = open_images(config.data)
    output.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision=config.run.precision)
    device, main = accelerator.device, accelerator.is_main_process
    share = accelerator.process_index, accelerator.num_processes
    crops = TrainingCrops(training, config.data.crop, config.run.seed, config.run.batch)

    set_seed(config.run.seed)
    codec = build_codec(config.codec).to(device)
    shares = rate_shares(config, len(codec.rates))
    if init is not None:
        codec.load_state_dict(load_codec(init).state_dict())
    run = Run(codec, Optimiser(codec, config.optimiser), config, output)
    start = run.restore()
    transmission = accelerator.prepare(Transmission(codec, config.channel))
    log = Log(output, start, as_yaml(config)) if main else None
    levels = TrainingLevels(codec.rates)
    last = config.run.iterations
    codec.train()
    with Progress(disable=not main) as progress:
        task = progress.add_task("training", total=last, completed=start)
        batches = prefetch(lambda step: crops.batch_at(step, *share), start, last - start)
        for step, images in enumerate(batches, start):
            snr_db, rates, seeds = conditions(config, shares, step, *share)
            rate = learning_rate_at(step, last, config.optimiser)
            mse = transmission(images.to(device), snr_db.to(device), rates, seeds)
            loss = distortion(mse, config.loss)
            accelerator.backward(loss)
            if config.optimiser.clip is not None:
                accelerator.clip_grad_norm_(codec.parameters(), config.optimiser.clip)
            run.optimiser.step(rate)
            run.averaged.update(codec, step)
            levels.add(rates, mse)

            done = step + 1
            progress.update(task, completed=done)
            if log is None:
                continue
            if done % config.run.log_every == 0:
                log.numbers(done, {"loss": loss.item(), "learning rate": rate} | levels.report())
            if done == last or done % config.run.checkpoint_every == 0:
                run.save(done)
            if validation and (done == last or done % config.run.validate_every == 0):
                with swap_weights(codec, run.averaged.state):
                    validate(codec, validation, config, log, done)
    if log is not None:
        log.close()
        with swap_weights(codec, run.averaged.state):
            save_codec(codec, output / "weights")
    leave(accelerator)
    return output / "weights"

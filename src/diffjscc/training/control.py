"""Train the control module of a frozen prior: `diffjscc train control`.

Section III of the paper: the prior's encoder is copied, and the copy learns to steer the prior by
the condition latent and the SNR. The loss is the error of the noise that both predict together;
gradients go through the prior's decoder, but none are kept for it.

Images, crops, transmissions, time steps and noise are functions of (seed, iteration), as in
`jscc`: a run that was killed goes on exactly, and N processes train on the batches that one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.progress import Progress
from torch import Tensor

from diffjscc.codecs.joint import JointCodec
from diffjscc.configuration import as_yaml
from diffjscc.data.crops import prefetch
from diffjscc.data.sources import ImageSource
from diffjscc.metrics.fidelity import psnr
from diffjscc.pretrained.networks import Network
from diffjscc.pretrained.pretrained import load_codec, save_codec
from diffjscc.pretrained.receiver import save_refiner
from diffjscc.pretrained.storage import WeightsError
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.latents import stride
from diffjscc.refiners.sampling import SamplerConfig, signal_powers
from diffjscc.scheme import Scheme
from diffjscc.training.config import ControlConfig
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.frozen import load_lpips, load_prior, take_over
from diffjscc.training.latents import Batch, LatentBatches, LatentFolder
from diffjscc.training.loop import Log, Optimiser, Run, learning_rate_at, leave, swap_weights
from diffjscc.training.noise import NoiseError, step_weights
from diffjscc.training.precompute import chosen_rates, settings
from diffjscc.training.validation import open_images


def build_refiner(config: ControlConfig, init: str | None) -> ControlledDiffusion:
    """The frozen prior with the control module that is going to be trained.

    Args:
        config: names the prior.
        init: weights whose control module is taken; None copies the prior's encoder.

    Raises:
        WeightsError: weights are missing, damaged or another prior's.
    """
    prior = load_prior(config.prior)
    control = ControlModule.for_prior(
        prior.unet,
        condition_channels=prior.vae.config.latent_channels,
        snr_embedding=config.snr_embedding,
        snr_scale=config.snr_scale,
        min_snr=config.min_snr,
        snr_range_db=config.channel.snr_db,
    )
    if init is not None:
        start_from(control, init)
    if config.memory.gradient_checkpointing:
        prior.unet.enable_gradient_checkpointing()
        control.enable_gradient_checkpointing()
    return ControlledDiffusion(
        prior.vae,
        prior.unet,
        control,
        scheduler=prior.scheduler,
        text=prior.text,
        config=DiffusionConfig(
            sampler=SamplerConfig(config.sampler.name, config.sampler.num_inference_steps)
        ),
    )


def start_from(control: ControlModule, source: str) -> None:
    """Give a control module the numbers of an earlier one.

    Raises:
        WeightsError: it is missing, damaged, of another prior, or reads the SNR in another way.
    """
    earlier = take_over(Network("control", control), source, "control module")
    for name in ("snr_scale", "min_snr"):
        ours, theirs = control.config[name], earlier.config[name]
        if ours != theirs:
            raise WeightsError(
                f"the control module of {source} has {name} {theirs}, the config {ours}; set "
                f"{name}={theirs} to start from it"
            )


def check_sizes(config: ControlConfig, refiner: ControlledDiffusion, processes: int) -> None:
    """Check what cannot be seen from the config alone.

    Raises:
        ValueError: crops that the networks cannot take, or a batch that cannot be shared out.
    """
    crop, multiple = config.data.crop, refiner.multiple
    if crop % multiple:
        raise ValueError(f"data.crop is {crop}; this prior needs a multiple of {multiple}")
    batch, parts = config.run.batch, config.memory.accumulate
    if batch % (processes * parts):
        raise ValueError(
            f"run.batch is {batch}; {processes} processes with memory.accumulate={parts} need a "
            f"multiple of {processes * parts}"
        )


class Backward:
    """The gradient of one iteration, in as many parts as memory asks for.

    Args:
        refiner: prior, time steps and the control module in training.
        config: how time steps are weighed, and in how many parts.
        accelerator: of this process.
    """

    def __init__(
        self, refiner: ControlledDiffusion, config: ControlConfig, accelerator: Accelerator
    ) -> None:
        self.refiner, self.accelerator = refiner, accelerator
        self.parts = config.memory.accumulate
        powers = signal_powers(refiner.scheduler)
        self.weights = step_weights(powers, config.min_snr_gamma).to(accelerator.device)
        self.noise_error = accelerator.prepare(
            NoiseError(refiner.denoiser, powers.to(accelerator.device))
        )

    def loss(self, batch: Batch) -> Tensor:
        """Weighted error of the noise predicted, over a batch."""
        device = self.accelerator.device
        low, high = self.refiner.snr_range_db
        t = batch.t.to(device)
        errors = self.noise_error(
            batch.clean.to(device),
            batch.noise.to(device),
            t,
            batch.condition.to(device),
            batch.snr_db.clamp(low, high).to(device),  # as the refiner does with fades
            self.refiner.context(batch.captions, len(t)),
        )
        loss: Tensor = (self.weights[t] * errors).mean()
        return loss

    def __call__(self, batch: Batch) -> Tensor:
        """Leave the gradient of a batch in the control module; its loss, a scalar."""
        total = torch.zeros((), device=self.accelerator.device)
        for index in range(self.parts):
            last = index + 1 == self.parts
            # Processes exchange their gradients once, after the last part.
            apart = nullcontext() if last else self.accelerator.no_sync(self.noise_error)
            with apart:
                loss = self.loss(batch.part(index, self.parts)) / self.parts
                self.accelerator.backward(loss)
            total += loss.detach()
        return total


class Validator:
    """Validation: transmissions of held-out images, painted and measured.

    Image n is sent at the n-th of evenly spread SNRs, at rates in turn.

    Args:
        source: the images.
        config: at most how many of them, and what they are sent over.
        rates: at which they are sent.
        codec: frozen.
        refiner: with the part that is in training.
    """

    def __init__(
        self,
        source: ImageSource,
        config: ControlConfig | DecoderConfig,
        rates: Sequence[Fraction],
        codec: JointCodec,
        refiner: ControlledDiffusion,
    ) -> None:
        self.source, self.channel, self.rates = source, config.channel, rates
        self.codec, self.refiner = codec, refiner
        self.count = min(config.data.validation_images, len(source))
        self.lpips = load_lpips(refiner.placement.device)

    @torch.no_grad()
    def report(self, log: Log, step: int) -> None:
        """Log PSNR and, where its weights are here, LPIPS of initial and final images."""
        low, high = self.channel.snr_db
        values: dict[str, list[float]] = {}
        for number in range(self.count):
            pixels = torch.from_numpy(self.source[number].copy()).permute(2, 0, 1)[None]
            original = (pixels.float() / 255).to(self.refiner.placement.device)
            snr_db = low + (number + 0.5) / self.count * (high - low)
            rate = self.rates[number % len(self.rates)]
            scheme = Scheme(self.codec, rate, self.refiner)
            generator = torch.Generator().manual_seed(number)
            result = scheme(original, self.channel.at(snr_db), generator)
            for name, image in (("initial", result.initial), ("final", result.image)):
                values.setdefault(f"psnr/{name}", []).append(psnr(image, original).item())
                if self.lpips is not None:
                    distance = self.lpips(image, original).item()
                    values.setdefault(f"lpips/{name}", []).append(distance)
            shown = torch.cat((result.initial, result.image, original))
            log.images(step, f"{number}: initial, final, original; {rate}, {snr_db:.1f} dB", shown)
        log.numbers(step, {name: float(np.mean(several)) for name, several in values.items()})


def train(config: ControlConfig, output: Path, init: str | None = None) -> Path:
    """Train, or go on training, in the folder `output`.

    Args:
        config: what to train, on what, and how; its latents have been precomputed.
        output: gets `checkpoint.pt`, `log.jsonl`, `tensorboard/`, `config.yaml` and `weights/`.
        init: weights whose control module to start from, in place of the prior's encoder.

    Returns:
        The folder of the whole scheme with the averaged control module.

    Raises:
        ValueError: a setting or weights that do not fit, or latents made with others.
    """
    images, validation = open_images(config.data)
    accelerator = Accelerator(mixed_precision=config.run.precision)
    device, main = accelerator.device, accelerator.is_main_process
    share = accelerator.process_index, accelerator.num_processes

    set_seed(config.run.seed)
    refiner = build_refiner(config, init).to(device, torch.float32)
    check_sizes(config, refiner, accelerator.num_processes)
    control, codec = refiner.denoiser.control, load_codec(config.codec, device=device)
    expected = settings(config, images, codec, refiner.vae)
    batches = LatentBatches(
        LatentFolder(config.precompute.folder, expected),
        config,
        config.data.crop // stride(refiner.vae),
        refiner.scheduler.config.num_train_timesteps,
    )
    output.mkdir(parents=True, exist_ok=True)
    run = Run(control, Optimiser(control, config.optimiser), config, output)
    start, last = run.restore(), config.run.iterations
    backward = Backward(refiner, config, accelerator)
    log = Log(output, start, as_yaml(config)) if main else None
    panels = (
        Validator(validation, config, chosen_rates(config, codec), codec, refiner)
        if main and validation
        else None
    )
    losses: list[Tensor] = []
    control.train()
    with Progress(disable=not main) as progress:
        task = progress.add_task("training", total=last, completed=start)
        read = prefetch(lambda step: batches.batch_at(step, *share), start, last - start)
        for step, batch in enumerate(read, start):
            rate = learning_rate_at(step, last, config.optimiser)
            loss = backward(batch)
            if config.optimiser.clip is not None:
                accelerator.clip_grad_norm_(control.parameters(), config.optimiser.clip)
            run.optimiser.step(rate)
            run.averaged.update(control, step)

            done = step + 1
            progress.update(task, completed=done)
            if log is None:
                continue
            losses.append(loss)
            if done % config.run.log_every == 0:
                mean = torch.stack(losses).mean().item()
                log.numbers(done, {"loss": mean, "learning rate": rate})
                losses.clear()
            if done == last or done % config.run.checkpoint_every == 0:
                run.save(done)
            if panels and (done == last or done % config.run.validate_every == 0):
                with swap_weights(control, run.averaged.state):
                    panels.report(log, done)
    if log is not None:
        log.close()
        with swap_weights(control, run.averaged.state):
            save_codec(codec, output / "weights")
            save_refiner(refiner, output / "weights", torch.float32)
    leave(accelerator)
    return output / "weights"

"""Distil a receiver to few sampling steps: `diffjscc train distillation`.

A deterministic sampler maps the noise that it begins with to a latent. The receiver that is given,
the teacher, computes such pairs once, with guidance and in all its steps. A copy of its control
module, the student, learns to come to the same latent in one to a few steps of DDIM without
guidance (Luhman and Luhman, arXiv 2101.02388): the error of its last latent is minimised, through
all of its steps. Prior and teacher stay frozen, and the weights hold both control modules. A step
without guidance runs the prior once in place of twice, so a student of one step samples in a
fourteenth of the time of a guided teacher of seven.

Latents and noise are functions of (seed, iteration).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from diffjscc.data.crops import EpochOrder
from diffjscc.refiners.control import Denoiser
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.sampling import signal_powers, steps_from
from diffjscc.training.distillation_config import DistillationConfig
from diffjscc.training.fit import fit, start
from diffjscc.training.images import identity, open_images
from diffjscc.training.latents import LatentFolder
from diffjscc.training.noise import amplitudes_of, mean_square
from diffjscc.training.optimiser import ParameterGroup
from diffjscc.training.receiver_stage import ReceiverStage
from diffjscc.training.sampled import load_receiver, sample_folder
from diffjscc.training.transmission import trained_rates


@dataclass(frozen=True)
class Pairs:
    """Begin and end of the teacher's sampling for b transmissions.

    Attributes:
        initial: latents of the initial images, also the condition, float32 [b, C, h, w].
        noise: noise that sampling began with, float32 [b, C, h, w].
        steps: the student's time steps, int64 [b, N].
        snr_db: effective SNR in dB, float32 [b].
        sampled: the teacher's latents, float32 [b, C, h, w].
    """

    initial: Tensor
    noise: Tensor
    steps: Tensor
    snr_db: Tensor
    sampled: Tensor


class PairBatches:
    """The pairs of every iteration, by number.

    Args:
        latents: the teacher's latents, with the noise that they were sampled from.
        config: seed and batch.
        steps: the student's time steps after each number of skipped ones.
    """

    def __init__(
        self, latents: LatentFolder, config: DistillationConfig, steps: list[list[int]]
    ) -> None:
        self.latents, self.steps = latents, torch.tensor(steps)
        self.order = EpochOrder(config.run.seed, len(latents), config.run.batch)

    def names_at(self, step: int, process_index: int = 0, process_count: int = 1) -> list[str]:
        """Places of the latents of `batch_at`, in its order."""
        share = self.order.share(step, process_index, process_count)
        return [self.latents.name(number) for number in share]

    def batch_at(self, step: int, process_index: int = 0, process_count: int = 1) -> Pairs:
        """One process's part of the batch of iteration `step`."""
        numbers, latents = self.order.share(step, process_index, process_count), self.latents
        noise = [latents.noise(number, 0) for number in numbers]
        size = noise[0].shape[-1]
        return Pairs(
            torch.stack([latents.initial(number, 0, size, (0, 0)) for number in numbers]),
            torch.stack(noise),
            self.steps[[latents.begin(number, 0) for number in numbers]],
            torch.tensor([latents.snr_db(number, 0) for number in numbers]),
            torch.stack([latents.sampled(number, 0, size, (0, 0)) for number in numbers]),
        )


class FewSteps(nn.Module):
    """Sampling in few DDIM steps, differentiable.

    Args:
        denoiser: prior and control modules; the distilled one is used.
        powers: ᾱ of every time step, float64 [T].
    """

    amplitudes: Tensor

    def __init__(self, denoiser: Denoiser, powers: Tensor) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.register_buffer("amplitudes", amplitudes_of(powers), persistent=False)

    def forward(
        self,
        initial: Tensor,
        noise: Tensor,
        steps: Tensor,
        snr_db: Tensor,
        context: Tensor | None,
    ) -> Tensor:
        """Sample latents [b, C, h, w].

        Args:
            initial: latents of the initial images, also the condition, [b, C, h, w].
            noise: that sampling begins with, [b, C, h, w].
            steps: time steps, int64 [b, N].
            snr_db: effective SNR in dB, float32 [b].
            context: text features [b, L, d], or None without cross attention.
        """
        clean, predicted = initial, noise
        for t in steps.unbind(1):
            of_clean, of_noise = self.amplitudes[t, :, None, None, None].unbind(1)
            z = of_clean * clean + of_noise * predicted
            predicted = self.denoiser(z, t, initial, snr_db, context, distilled=True)
            clean = (z - of_noise * predicted) / of_clean
        return clean


class DistillationStage(ReceiverStage[Pairs]):
    """Training of a control module that samples in few steps.

    Args:
        config: settings.
        accelerator: of this process.

    Raises:
        ValueError: a setting or weights that do not fit, or latents sampled with others.
    """

    def __init__(self, config: DistillationConfig, accelerator: Accelerator) -> None:
        source, self.held_out = open_images(config.data)
        self.config, self.device = config, accelerator.device
        self.identity = identity(source)
        self.codec, self.refiner = load_receiver(config.weights, self.device)
        self.rates = trained_rates(config.rate_shares, self.codec.rates)
        check_teacher(config, self.refiner)
        latents = sample_folder(config, source, self.codec, self.refiner, decoded=False)
        set_seed(config.run.seed)
        refiner, student = self.refiner, copy.deepcopy(self.refiner.denoiser.control)
        student.register_to_config(distilled_steps=config.steps)
        refiner.denoiser.control.requires_grad_(False)
        refiner.denoiser.distilled = student
        refiner.config = replace(
            refiner.config,
            sampler=replace(refiner.config.sampler, distilled_steps=config.steps),
        )
        sampler, scheduler = refiner.config.sampler, refiner.scheduler
        steps = [
            steps_from(sampler, scheduler, begin) for begin in range(sampler.num_inference_steps)
        ]
        self.batches = PairBatches(latents, config, steps)
        self.module = FewSteps(refiner.denoiser, signal_powers(scheduler)).to(self.device)
        self.trained = student.train()
        self.groups = (ParameterGroup(student, config.optimiser, student),)

    def batches_at(self, step: int, process: int, processes: int) -> tuple[Pairs]:
        """See `Stage.batches_at`."""
        return (self.batches.batch_at(step, process, processes),)

    def names_at(self, step: int, process: int, processes: int) -> list[str]:
        """See `Stage.names_at`."""
        return self.batches.names_at(step, process, processes)

    def losses(self, module: nn.Module, batch: Pairs, step: int) -> dict[str, Tensor]:
        """See `Stage.losses`: the squared error of the student's latents."""
        del step
        low, high = self.refiner.snr_range_db
        sampled = module(
            batch.initial.to(self.device),
            batch.noise.to(self.device),
            batch.steps.to(self.device),
            batch.snr_db.clamp(low, high).to(self.device),
            self.refiner.context(None, len(batch.initial)),
        )
        return {"loss": mean_square(sampled - batch.sampled.to(self.device)).mean()}


def check_teacher(config: DistillationConfig, refiner: ControlledDiffusion) -> None:
    """Raise ValueError for a receiver that cannot be distilled, or crops it cannot take."""
    sampler = refiner.config.sampler
    rules = (
        (sampler.name == "ddim", f'samples by "{sampler.name}"; it must be "ddim"'),
        (sampler.start == "initial", 'begins at pure noise; its sampler.start must be "initial"'),
        (refiner.denoiser.distilled is None, "is distilled already; give the one it was made from"),
        (refiner.text is None, "reads text; only priors without text are distilled"),
        (refiner.condition_encoder is None, "has a condition encoder of its own; none is possible"),
    )
    for kept, words in rules:
        if not kept:
            raise ValueError(f'the receiver of weights "{config.weights}" {words}')
    if config.data.crop % refiner.multiple:
        raise ValueError(
            f"data.crop is {config.data.crop}; this receiver needs a multiple of {refiner.multiple}"
        )


def train(config: DistillationConfig, output: Path) -> Path:
    """Distil a receiver, or resume its distillation, in the folder `output`.

    Args:
        config: settings.
        output: the run's folder, see `fit`.

    Returns:
        The folder of the whole scheme with the averaged control module.

    Raises:
        ValueError: a setting or weights that do not fit, or latents sampled with others.
    """
    accelerator = start(config)
    return fit(DistillationStage(config, accelerator), accelerator, output)

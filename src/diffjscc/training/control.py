"""Train the control module of a frozen prior: `diffjscc train control`.

Section III of the paper: the prior's encoder is copied, and the copy learns to steer the prior by
the condition latent and the SNR. The loss is the error of the noise that both predict together;
gradients go through the prior's decoder, but none are kept for it.

Images, crops, transmissions, time steps and noise are functions of (seed, iteration).
"""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from diffjscc.pretrained.networks import Network
from diffjscc.pretrained.pretrained import load_codec
from diffjscc.pretrained.storage import WeightsError
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.latents import stride
from diffjscc.refiners.sampling import SamplerConfig, signal_powers
from diffjscc.training.control_config import ControlConfig
from diffjscc.training.control_latents import (
    ControlBatch,
    ControlBatches,
    chosen_rates,
    latent_settings,
)
from diffjscc.training.fit import fit, start
from diffjscc.training.frozen import load_prior, take_over
from diffjscc.training.images import identity, open_images
from diffjscc.training.latents import LatentFolder
from diffjscc.training.noise import NoiseError, step_weights
from diffjscc.training.optimiser import ParameterGroup
from diffjscc.training.receiver_stage import ReceiverStage


def build_refiner(config: ControlConfig, init: str | None) -> ControlledDiffusion:
    """Build the frozen prior with the control module to train.

    Args:
        config: settings.
        init: weights whose control module to start from; None copies the prior's encoder.

    Raises:
        WeightsError: weights are missing, damaged or another prior's.
    """
    prior = load_prior(config.prior, config.prior_prediction)
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
    """Load the weights of an earlier control module.

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


class ControlStage(ReceiverStage[ControlBatch]):
    """Training of a control module.

    Args:
        config: settings; its latents have been precomputed.
        accelerator: of this process.
        init: weights whose control module to start from; None copies the prior's encoder.

    Raises:
        ValueError: a setting or weights that do not fit, or latents computed with others.
    """

    config: ControlConfig

    def __init__(self, config: ControlConfig, accelerator: Accelerator, init: str | None) -> None:
        images, self.held_out = open_images(config.data)
        self.config, self.device = config, accelerator.device
        self.identity = identity(images)
        set_seed(config.run.seed)
        self.refiner = build_refiner(config, init).to(self.device, torch.float32)
        crop, multiple = config.data.crop, self.refiner.multiple
        if crop % multiple:
            raise ValueError(f"data.crop is {crop}; this prior needs a multiple of {multiple}")
        self.codec = load_codec(config.codec, device=self.device)
        self.rates = chosen_rates(config, self.codec)
        expected = latent_settings(config, images, self.codec, self.refiner.vae)
        self.batches = ControlBatches(
            LatentFolder(config.precompute.folder, expected),
            config,
            crop // stride(self.refiner.vae),
            self.refiner.scheduler.config.num_train_timesteps,
        )
        powers = signal_powers(self.refiner.scheduler)
        self.weights = step_weights(powers, config.min_snr_gamma).to(self.device)
        self.module = NoiseError(self.refiner.denoiser, powers).to(self.device)
        control = self.refiner.denoiser.control
        self.trained = control.train()
        self.groups = (ParameterGroup(control, config.optimiser, control),)

    def batches_at(self, step: int, process: int, processes: int) -> list[ControlBatch]:
        """See `Stage.batches_at`; as many parts as `memory.accumulate` says."""
        batch, parts = (
            self.batches.batch_at(step, process, processes),
            self.config.memory.accumulate,
        )
        return [batch.part(index, parts) for index in range(parts)]

    def names_at(self, step: int, process: int, processes: int) -> list[str]:
        """See `Stage.names_at`."""
        return self.batches.names_at(step, process, processes)

    def losses(self, module: nn.Module, batch: ControlBatch, step: int) -> dict[str, Tensor]:
        """See `Stage.losses`: the weighted error of the predicted noise."""
        del step
        low, high = self.refiner.snr_range_db
        t = batch.t.to(self.device)
        errors = module(
            batch.clean.to(self.device),
            batch.noise.to(self.device),
            t,
            batch.condition.to(self.device),
            batch.snr_db.clamp(low, high).to(self.device),  # as the refiner does with fades
            self.refiner.context(batch.captions, len(t)),
        )
        return {"loss": (self.weights[t] * errors).mean()}


def train(config: ControlConfig, output: Path, init: str | None = None) -> Path:
    """Train a control module, or resume its training, in the folder `output`.

    Args:
        config: settings; its latents have been precomputed.
        output: the run's folder, see `fit`.
        init: weights whose control module to start from, in place of the prior's encoder.

    Returns:
        The folder of the whole scheme with the averaged control module.

    Raises:
        ValueError: a setting or weights that do not fit, or latents computed with others.
    """
    accelerator = start(config, config.memory.accumulate)
    return fit(ControlStage(config, accelerator, init), accelerator, output)

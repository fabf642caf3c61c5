"""Train the decoder of a receiver's VAE on sampled latents: `diffjscc train decoder`.

The last stage of a receiver. `train vae` trains the decoder on latents of photographs; in a
receiver it decodes latents that the prior sampled, which are smoother. Here it learns to make
photographs of those, beside the images' own latents and the initial images'. Encoder, prior,
control module and codec do not change, to the bit, so everything computed with them stays valid.

Two networks are losses here that are metrics elsewhere: LPIPS with SqueezeNet, and SqueezeNet 1.1
itself, by its mean features and by their Fréchet distance. Results in LPIPS (SqueezeNet), or in
distances of SqueezeNet features, flatter receivers trained like this; read others too. Patch
discriminators at full and half size (Wang et al., arXiv 1711.11585) are trained along.

Latents and windows are functions of (seed, iteration).
"""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from diffjscc.metrics.lpips import LPIPS
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.latents import stride
from diffjscc.training.decoder_batches import SampledBatch, SampledBatches
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.decoder_losses import DecoderLosses
from diffjscc.training.fit import fit, start
from diffjscc.training.images import identity, open_images
from diffjscc.training.optimiser import ParameterGroup
from diffjscc.training.receiver_stage import ReceiverStage
from diffjscc.training.sampled import load_receiver, sample_folder
from diffjscc.training.transmission import trained_rates


def check_sizes(config: DecoderConfig, refiner: ControlledDiffusion) -> None:
    """Raise ValueError for crops or windows that the networks cannot take."""
    for name, side, multiple in (
        ("data.crop", config.data.crop, refiner.multiple),
        ("window", config.window, stride(refiner.vae)),
    ):
        if side % multiple:
            raise ValueError(f"{name} is {side}; this receiver needs a multiple of {multiple}")


class DecoderStage(ReceiverStage[SampledBatch]):
    """Training of a VAE's decoder and two discriminators.

    Args:
        config: settings.
        accelerator: of this process.

    Raises:
        ValueError: a setting or weights that do not fit, or latents sampled with others.
        MetricUnavailable: LPIPS's weights cannot be had.
    """

    def __init__(self, config: DecoderConfig, accelerator: Accelerator) -> None:
        source, self.held_out = open_images(config.data)
        self.config, self.device = config, accelerator.device
        self.identity = identity(source)
        self.codec, self.refiner = load_receiver(config.weights, self.device)
        self.rates = trained_rates(config.rate_shares, self.codec.rates)
        check_sizes(config, self.refiner)
        lpips = LPIPS.load("squeeze")
        latents = sample_folder(config, source, self.codec, self.refiner, decoded=True)
        self.batches = SampledBatches(latents, config, stride(self.refiner.vae))
        set_seed(config.run.seed)
        vae = self.refiner.vae.to(memory_format=torch.channels_last)
        networks = DecoderLosses(vae, lpips, config).to(self.device)
        self.module, self.trained = networks, networks.trained.train()
        decoder, discriminators = networks.decoder, networks.discriminators
        self.groups = (
            ParameterGroup(decoder, config.optimiser, decoder),
            ParameterGroup(discriminators, config.discriminators.optimiser, discriminators),
        )

    def batches_at(self, step: int, process: int, processes: int) -> tuple[SampledBatch]:
        """See `Stage.batches_at`."""
        return (self.batches.batch_at(step, process, processes),)

    def names_at(self, step: int, process: int, processes: int) -> list[str]:
        """See `Stage.names_at`."""
        return self.batches.names_at(step, process, processes)

    def losses(self, module: nn.Module, batch: SampledBatch, step: int) -> dict[str, Tensor]:
        """See `Stage.losses`."""
        images = batch.images.to(self.device, memory_format=torch.channels_last)
        losses: dict[str, Tensor] = module(images, batch.latents.to(self.device), step)
        return losses


def train(config: DecoderConfig, output: Path) -> Path:
    """Train a decoder, or resume its training, in the folder `output`.

    Args:
        config: settings.
        output: the run's folder, see `fit`.

    Returns:
        The folder of the whole scheme with the averaged decoder.

    Raises:
        ValueError: a setting or weights that do not fit, or latents sampled with others.
        MetricUnavailable: LPIPS's weights cannot be had.
    """
    accelerator = start(config)
    return fit(DecoderStage(config, accelerator), accelerator, output)

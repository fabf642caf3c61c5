"""Train a bias-free denoiser of photographs: `diffjscc train denoiser`.

One iteration adds Gaussian noise of a random deviation and coarseness to a batch of crops, and
minimises the squared error of the denoised ones. Crops and noise are functions of (seed,
iteration).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from diffjscc.data.crops import TrainingCrops
from diffjscc.data.readable import readable_numbers
from diffjscc.data.sources import ImageSource
from diffjscc.metrics.fidelity import psnr
from diffjscc.pretrained.networks import DENOISER, Network, save_network
from diffjscc.refiners.bias_free import BiasFreeDenoiser, coarse_noise
from diffjscc.training.denoiser_config import DenoiserConfig, NoiseConfig
from diffjscc.training.fit import fit, start
from diffjscc.training.frozen import take_over
from diffjscc.training.images import identity, open_images
from diffjscc.training.log import Log
from diffjscc.training.optimiser import ParameterGroup
from diffjscc.training.seeded_crops import SeededCrops, SeededCropsStage
from diffjscc.training.stage import Validation
from diffjscc.training.validation import read_image


def noisy(images: Tensor, seeds: Tensor, config: NoiseConfig) -> Tensor:
    """Add noise to images [B, 3, H, W], each with its own deviation and coarseness by seed [B]."""
    low, high = config.deviation
    added = []
    for seed in seeds.tolist():
        random = np.random.default_rng(seed)
        factor = int(random.choice(config.coarseness))
        generator = torch.Generator().manual_seed(seed)
        noise = coarse_noise(images[:1].shape, factor, generator)
        added.append(random.uniform(low, high) * noise)
    return images + torch.cat(added).to(images.device)


class DenoisingError(nn.Module):
    """Mean squared error of denoised images.

    Args:
        denoiser: in training.
        config: of the noise.
    """

    def __init__(self, denoiser: BiasFreeDenoiser, config: NoiseConfig) -> None:
        super().__init__()
        self.denoiser, self.config = denoiser, config

    def forward(self, images: Tensor, seeds: Tensor) -> dict[str, Tensor]:
        """Losses by name of images [B, 3, H, W] in [0, 1], noise seeds [B]."""
        mse = (self.denoiser(noisy(images, seeds, self.config)) - images).square().mean()
        return {"loss": mse, "mse": mse.detach()}


class DenoiserValidation:
    """PSNR of whole images, denoised, at each deviation.

    Args:
        source: held-out images.
        count: at most how many of them are used.
        denoiser: in training.
        deviations: of white noise.
    """

    def __init__(
        self,
        source: ImageSource,
        count: int,
        denoiser: BiasFreeDenoiser,
        deviations: Sequence[float],
    ) -> None:
        self.source, self.numbers = source, readable_numbers(source, count)
        self.denoiser, self.deviations = denoiser, deviations

    @torch.no_grad()
    def __call__(self, log: Log, step: int) -> None:
        """Log mean PSNRs, before and after denoising."""
        device = next(self.denoiser.parameters()).device
        for deviation in self.deviations:
            before, after = [], []
            for number in self.numbers:
                image = read_image(self.source, number, device)
                generator = torch.Generator().manual_seed(number)
                noise = torch.randn(image.shape, generator=generator).to(device)
                received = image + deviation * noise
                before.append(psnr(received.clamp(0, 1), image).item())
                after.append(psnr(self.denoiser(received).clamp(0, 1), image).item())
            means = {"noisy psnr": float(np.mean(before)), "psnr": float(np.mean(after))}
            log.numbers(step, {f"{key} at {deviation:g}": value for key, value in means.items()})


class DenoiserStage(SeededCropsStage):
    """Training of a denoiser.

    Args:
        config: settings.
        accelerator: of this process.
        init: weights whose denoiser to start from; None for random ones.

    Raises:
        ValueError: a setting or weights that do not fit.
    """

    def __init__(self, config: DenoiserConfig, accelerator: Accelerator, init: str | None) -> None:
        training, self.held_out = open_images(config.data)
        self.config, self.device = config, accelerator.device
        self.identity = identity(training)
        run = config.run
        self.crops = TrainingCrops(training, config.data.crop, run.seed, run.batch)
        set_seed(run.seed)
        denoiser = BiasFreeDenoiser(**config.denoiser.model_dump())
        if init is not None:
            take_over(Network(DENOISER, denoiser), init, DENOISER)
        self.denoiser = denoiser.to(self.device, memory_format=torch.channels_last).train()
        self.trained = self.denoiser
        self.module = DenoisingError(self.denoiser, config.noise)
        self.groups = (ParameterGroup(self.trained, config.optimiser, self.denoiser),)

    def losses(self, module: nn.Module, batch: SeededCrops, step: int) -> dict[str, Tensor]:
        """See `Stage.losses`."""
        del step
        images = batch.images.to(self.device, memory_format=torch.channels_last)
        losses: dict[str, Tensor] = module(images, batch.seeds)
        return losses

    def validation(self) -> Validation | None:
        """PSNR of held-out images at the ends and in the middle of the range of deviations."""
        if self.held_out is None:
            return None
        low, high = self.config.noise.deviation
        count = self.config.data.validation_images
        deviations = (max(low, high / 4), high / 2, high)
        return DenoiserValidation(self.held_out, count, self.denoiser, deviations)

    def save(self, folder: Path) -> None:
        """Write the denoiser to `folder`/denoiser."""
        folder.mkdir(exist_ok=True)
        save_network(Network(DENOISER, self.denoiser), folder, torch.float32)


def train(config: DenoiserConfig, output: Path, init: str | None = None) -> Path:
    """Train a denoiser, or resume its training, in the folder `output`.

    Args:
        config: settings.
        output: the run's folder, see `fit`.
        init: weights whose denoiser to start from; None for random ones.

    Returns:
        The folder that holds the averaged denoiser as `denoiser/`.
    """
    accelerator = start(config, partial=False)
    return fit(DenoiserStage(config, accelerator, init), accelerator, output)

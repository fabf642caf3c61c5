"""Train a latent diffusion prior from scratch: `diffjscc train prior`.

Stable Diffusion in small: a UNet learns to predict the noise in noisy latents of photographs (Ho,
Jain, Abbeel, arXiv 2006.11239; Rombach et al., arXiv 2112.10752). It is conditioned neither on the
channel nor on captions. The latents are computed once, by a VAE that `diffjscc train vae` trained.
Images, crops, time steps and noise are functions of (seed, iteration).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from torch import Tensor, nn

from diffjscc.data.crops import EpochOrder
from diffjscc.data.sources import ImageSource
from diffjscc.pretrained.networks import Network, save_network
from diffjscc.refiners.latents import decode, encode, stride
from diffjscc.refiners.library import UNet2DConditionModel
from diffjscc.refiners.sampling import (
    SamplerConfig,
    gaussian,
    paper_scheduler,
    sample,
    signal_powers,
)
from diffjscc.refiners.vae import VAE
from diffjscc.training.fit import fit, start
from diffjscc.training.frozen import encoder_hash, load_vae, take_over
from diffjscc.training.images import identity, open_images
from diffjscc.training.latent_writing import TILE, fill, fitted
from diffjscc.training.latents import ImageLatents, LatentFolder
from diffjscc.training.log import Log
from diffjscc.training.noise import NoiseError, step_weights
from diffjscc.training.optimiser import ParameterGroup
from diffjscc.training.prior_config import PriorConfig, UNetArchitecture
from diffjscc.training.stage import Stage, Validation

SAMPLES = 4  # images sampled by validation


def build(config: UNetArchitecture, latent_channels: int, init: str | None) -> UNet2DConditionModel:
    """Build a prior without text conditioning, untrained or from the weights `init`."""
    attention = config.attention
    unet = UNet2DConditionModel(
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=config.widths,
        layers_per_block=config.layers,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
        mid_block_type="UNetMidBlock2D",
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]),
        attention_head_dim=tuple(max(1, width // config.head_width) for width in config.widths),
        norm_num_groups=config.norm_groups,
    )
    if init is not None:
        take_over(Network("unet", unet), init, "prior")
    return unet.to(memory_format=torch.channels_last)


class UnconditionalDenoiser(nn.Module):
    """A prior without a control module and without text, as one function.

    Args:
        unet: the prior.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, z_t: Tensor, t: Tensor) -> Tensor:
        """Noise predicted in z_t, of its shape [B, C, h, w], at time steps int64 [B]."""
        (predicted,) = self.unet(z_t, t, None, return_dict=False)
        noise: Tensor = predicted
        return noise


@dataclass(frozen=True)
class NoisyLatents:
    """Latents z_0 and noise, float32 [b, C, n, n], and time steps t, int64 [b]."""

    clean: Tensor
    noise: Tensor
    t: Tensor


class PriorBatches:
    """Latents, noise and time steps of every iteration, by number.

    Args:
        latents: latents of the training images.
        config: seed and batch.
        size: side of the crops, in latent positions.
        time_steps: number of the prior's time steps.
    """

    def __init__(
        self, latents: LatentFolder, config: PriorConfig, size: int, time_steps: int
    ) -> None:
        self.latents, self.run = latents, config.run
        self.size, self.time_steps = size, time_steps
        self.order = EpochOrder(config.run.seed, len(latents), config.run.batch)

    def names_at(self, step: int, process_index: int = 0, process_count: int = 1) -> list[str]:
        """Places of the latents of `batch_at`, in its order."""
        return [
            self.latents.name(number)
            for number in self.order.share(step, process_index, process_count)
        ]

    def batch_at(self, step: int, process_index: int = 0, process_count: int = 1) -> NoisyLatents:
        """One process's part of the batch of iteration `step`."""
        share = self.run.batch // process_count
        clean, noise, steps = [], [], []
        for place in range(process_index * share, (process_index + 1) * share):
            rng = np.random.default_rng([self.run.seed, step, 1 + place])
            steps.append(int(rng.integers(self.time_steps)))
            corner = (rng.random(), rng.random())
            mean, deviation = self.latents.original(self.order(step, place), self.size, corner)
            normal = torch.from_numpy(rng.standard_normal((2, *mean.shape), dtype=np.float32))
            clean.append(mean + deviation * normal[0])
            noise.append(normal[1])
        return NoisyLatents(torch.stack(clean), torch.stack(noise), torch.tensor(steps))


def image_latents(config: PriorConfig, images: ImageSource, vae: VAE) -> LatentFolder:
    """Open the latents of all images; those that `config.latents` lacks are computed first."""
    expected: dict[str, Any] = {
        "images": len(images),
        "images_fingerprint": images.fingerprint,
        "vae": encoder_hash(vae),
        "crop": config.data.crop,
        "short_side": config.short_side,
    }
    multiple = stride(vae)

    @torch.no_grad()
    def encoded(pixels: NDArray[np.uint8], number: int, text: str | None) -> ImageLatents:
        del number, text  # nothing is sent, nothing is described
        image = fitted(pixels, config.data.crop, config.short_side, multiple).to(vae.device)
        posterior = encode(vae, image, TILE)
        original = torch.cat((posterior.mean, posterior.deviation)).half().cpu()
        nothing = torch.empty(0)
        return ImageLatents(original, original[:0], nothing, nothing.long(), [])

    fill(config.latents, expected, images, encoded)
    return LatentFolder(config.latents, expected)


class PriorStage(Stage[NoisyLatents]):
    """Training of a prior on the latents of a frozen VAE.

    Args:
        config: settings.
        accelerator: of this process.
        init: weights whose prior to start from; None for random ones.

    Raises:
        ValueError: a setting or weights that do not fit, or latents computed with others.
    """

    def __init__(self, config: PriorConfig, accelerator: Accelerator, init: str | None) -> None:
        images, _ = open_images(config.data)
        self.config, self.device = config, accelerator.device
        self.identity = identity(images)
        self.vae = load_vae(config.vae).to(self.device)
        latents = image_latents(config, images, self.vae)
        powers = signal_powers(paper_scheduler())
        self.size = config.data.crop // stride(self.vae)
        self.batches = PriorBatches(latents, config, self.size, len(powers))
        set_seed(config.run.seed)
        unet = build(config.unet, self.vae.config.latent_channels, init).to(self.device)
        self.unet = self.trained = unet.train()
        self.weights = step_weights(powers, config.min_snr_gamma).to(self.device)
        self.module = NoiseError(UnconditionalDenoiser(unet), powers).to(self.device)
        self.groups = (ParameterGroup(unet, config.optimiser, unet),)

    def batches_at(self, step: int, process: int, processes: int) -> tuple[NoisyLatents]:
        """See `Stage.batches_at`."""
        return (self.batches.batch_at(step, process, processes),)

    def names_at(self, step: int, process: int, processes: int) -> list[str]:
        """See `Stage.names_at`."""
        return self.batches.names_at(step, process, processes)

    def losses(self, module: nn.Module, batch: NoisyLatents, step: int) -> dict[str, Tensor]:
        """See `Stage.losses`."""
        del step
        clean, noise, t = (x.to(self.device) for x in (batch.clean, batch.noise, batch.t))
        return {"loss": (self.weights[t] * module(clean, noise, t)).mean()}

    def validation(self) -> Validation:
        """Images sampled from noise."""
        return self.sample_images

    @torch.no_grad()
    def sample_images(self, log: Log, step: int) -> None:
        """Log images sampled from noise."""
        denoiser = UnconditionalDenoiser(self.unet)
        shape = (SAMPLES, self.unet.config.in_channels, self.size, self.size)

        def predict(z: Tensor, t: int) -> Tensor:
            predicted: Tensor = denoiser(z, torch.full((len(z),), t, device=z.device))
            return predicted

        noise = gaussian(shape, torch.Generator().manual_seed(0), self.device)
        latents = sample(predict, paper_scheduler(), SamplerConfig("dpm-solver++", 25), noise)
        log.images(step, "samples", decode(self.vae, latents, TILE))

    def save(self, folder: Path) -> None:
        """Write unet/, vae/ and scheduler/, which `load_prior` reads."""
        folder.mkdir(exist_ok=True)
        for network in (Network("unet", self.unet), Network("vae", self.vae)):
            save_network(network, folder, torch.float32)
        paper_scheduler().save_config(folder / "scheduler")


def train(config: PriorConfig, output: Path, init: str | None = None) -> Path:
    """Train a prior, or resume its training, in the folder `output`.

    Args:
        config: settings.
        output: the run's folder, see `fit`.
        init: weights whose prior to start from; None for random ones.

    Returns:
        The folder of the prior with the averaged weights: vae/, unet/ and scheduler/.

    Raises:
        ValueError: a setting or weights that do not fit, or latents computed with others.
    """
    accelerator = start(config)
    return fit(PriorStage(config, accelerator, init), accelerator, output)

"""Train the bundled prior's VAE: `diffjscc train vae`.

The losses of decoded images are the L1 distance, LPIPS and, once the images are plausible, that
of a patch discriminator (Esser et al., arXiv 2012.09841). Crops, flips and the posterior's noise
are functions of (seed, iteration).
"""

from __future__ import annotations

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
from diffjscc.metrics.lpips import LPIPS
from diffjscc.pretrained.networks import Network, save_network
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.latents import decode, encode, stride
from diffjscc.refiners.vae import CompactVAE
from diffjscc.training.discriminator import PatchDiscriminator, generator_loss, hinge_loss
from diffjscc.training.fit import fit, start
from diffjscc.training.frozen import take_over
from diffjscc.training.images import identity, open_images
from diffjscc.training.log import Log
from diffjscc.training.losses import ExtraLosses
from diffjscc.training.optimiser import ParameterGroup
from diffjscc.training.prior_config import VAEConfig, VAELossConfig
from diffjscc.training.seeded_crops import SeededCrops, SeededCropsStage
from diffjscc.training.stage import Validation

TILE = DiffusionConfig().tile


class VAELosses(nn.Module):
    """VAE and discriminator, and the losses of both.

    Args:
        vae: the VAE in training.
        discriminator: classifies images as photographs or decoded ones.
        lpips: the perceptual distance; its network is frozen.
        weights: of the losses.
    """

    def __init__(
        self, vae: CompactVAE, discriminator: nn.Module, lpips: LPIPS, weights: VAELossConfig
    ) -> None:
        super().__init__()
        self.trained = nn.ModuleDict({"vae": vae, "discriminator": discriminator})
        self.vae, self.discriminator = vae, discriminator
        self.lpips = lpips
        self.weights = weights
        self.extra = ExtraLosses(weights.extra)

    def forward(self, images: Tensor, seeds: Tensor, step: int) -> dict[str, Tensor]:
        """Losses by name of images [B, 3, H, W] in [0, 1], noise seeds [B]; "loss" is minimised.

        Its gradient improves the VAE against the discriminator and the discriminator against the
        VAE: neither part of it reaches the other's weights.
        """
        pixels = 2 * images - 1
        mean, log_variance = self.vae.quant_conv(self.vae.encoder(pixels)).chunk(2, dim=1)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        noise = torch.stack([torch.randn(mean.shape[1:], generator=each) for each in generators])
        latent = mean + torch.exp(log_variance / 2) * noise.to(mean.device)
        (decoded,) = self.vae.decode(latent, return_dict=False)
        losses = {
            "mse": (decoded.detach() - pixels).square().mean() / 4,  # of images in [0, 1]
            "l1": (decoded - pixels).abs().mean(),
            "lpips": self.lpips.distance((decoded + 1) / 2, images).mean(),
        }
        loss = self.weights.l1 * losses["l1"] + self.weights.lpips * losses["lpips"]
        if step >= self.weights.adversarial_start:
            losses["adversarial"] = generator_loss(self.discriminator, decoded)
            losses["discriminator"] = hinge_loss(
                self.discriminator(pixels), self.discriminator(decoded.detach())
            )
            loss = loss + self.weights.adversarial * losses["adversarial"]
            loss = loss + losses["discriminator"]
        extra, own = self.extra((decoded + 1) / 2, images)
        return {"loss": loss + extra, **losses, **own}


def build(config: VAEConfig, init: str | None) -> VAELosses:
    """Networks at the start of a run, in training mode.

    The latents' mean and variance do not move where the encoder is frozen.

    Args:
        config: settings.
        init: weights whose VAE to start from; None for random ones.

    Raises:
        WeightsError: the weights are missing, damaged or of another architecture.
    """
    vae = CompactVAE(**config.vae.model_dump())
    if init is not None:
        take_over(Network("vae", vae), init, "VAE")
    vae = vae.to(memory_format=torch.channels_last).train()
    if config.freeze_encoder:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.eval()
    discriminator = PatchDiscriminator(config.loss.discriminator_width)
    return VAELosses(vae, discriminator, LPIPS.load("squeeze"), config.loss)


class VAEValidation:
    """PSNR and LPIPS of whole images through the latent's mean.

    Args:
        source: held-out images.
        count: at most how many of them are used.
        vae: the VAE in training.
        lpips: on the VAE's device.
    """

    def __init__(self, source: ImageSource, count: int, vae: CompactVAE, lpips: LPIPS) -> None:
        self.source, self.numbers = source, readable_numbers(source, count)
        self.vae, self.lpips = vae, lpips

    @torch.no_grad()
    def __call__(self, log: Log, step: int) -> None:
        """Log mean metrics, and the first two images."""
        device, multiple = next(self.vae.parameters()).device, stride(self.vae)
        psnrs, distances = [], []
        for number in self.numbers:
            pixels = self.source[number]
            height, width = (side // multiple * multiple for side in pixels.shape[:2])
            original = torch.from_numpy(pixels[:height, :width].copy()).permute(2, 0, 1)[None]
            original = original.to(device).float() / 255
            latent = encode(self.vae, original, TILE).mean
            image = decode(self.vae, latent, TILE).clamp(0, 1)
            psnrs.append(psnr(image, original).item())
            distances.append(self.lpips(image, original).item())
            if number in self.numbers[:2]:
                log.images(step, f"original and decoded {number}", torch.cat((original, image)))
        means = {"psnr": float(np.mean(psnrs)), "lpips-squeeze": float(np.mean(distances))}
        log.numbers(step, means)


class VAEStage(SeededCropsStage):
    """Training of a VAE and a discriminator.

    Args:
        config: settings.
        accelerator: of this process.
        init: weights whose VAE to start from; None for random ones.

    Raises:
        ValueError: a setting or weights that do not fit.
        MetricUnavailable: LPIPS's weights cannot be had.
    """

    def __init__(self, config: VAEConfig, accelerator: Accelerator, init: str | None) -> None:
        training, self.held_out = open_images(config.data)
        self.config, self.device = config, accelerator.device
        self.identity = identity(training)
        run = config.run
        self.crops = TrainingCrops(training, config.data.crop, run.seed, run.batch)
        set_seed(run.seed)
        networks = build(config, init).to(self.device)
        self.module, self.trained = networks, networks.trained
        self.vae, self.lpips = networks.vae, networks.lpips
        self.groups = (ParameterGroup(self.trained, config.optimiser, self.vae),)

    def losses(self, module: nn.Module, batch: SeededCrops, step: int) -> dict[str, Tensor]:
        """See `Stage.losses`."""
        images = batch.images.to(self.device, memory_format=torch.channels_last)
        losses: dict[str, Tensor] = module(images, batch.seeds, step)
        return losses

    def validation(self) -> Validation | None:
        """PSNR and LPIPS of held-out images."""
        if self.held_out is None:
            return None
        count = self.config.data.validation_images
        return VAEValidation(self.held_out, count, self.vae, self.lpips)

    def save(self, folder: Path) -> None:
        """Write the VAE to `folder`/vae."""
        folder.mkdir(exist_ok=True)
        save_network(Network("vae", self.vae), folder, torch.float32)


def train(config: VAEConfig, output: Path, init: str | None = None) -> Path:
    """Train a VAE, or resume its training, in the folder `output`.

    Args:
        config: settings.
        output: the run's folder, see `fit`.
        init: weights whose VAE to start from; None for random ones.

    Returns:
        The folder that holds the averaged VAE as `vae/`.
    """
    accelerator = start(config, partial=config.loss.adversarial_start > 0)
    return fit(VAEStage(config, accelerator, init), accelerator, output)

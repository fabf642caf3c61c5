"""Train the bundled prior's VAE: `diffjscc train vae`.

An L1 distance, LPIPS and, once the images are plausible, a patch discriminator judge what comes
back through the latent (Esser et al., arXiv 2012.09841). Crops, flips and the posterior's noise
are functions of (seed, iteration), as in `jscc`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.progress import Progress
from torch import Tensor, nn

from diffjscc.configuration import as_yaml
from diffjscc.data.crops import TrainingCrops, prefetch
from diffjscc.data.sources import ImageSource
from diffjscc.metrics.fidelity import psnr
from diffjscc.metrics.lpips import LPIPS
from diffjscc.pretrained.networks import Network, save_network
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.latents import decode, encode, stride
from diffjscc.refiners.vae import CompactVAE
from diffjscc.training.config import VAEConfig, VAELossConfig
from diffjscc.training.discriminator import PatchDiscriminator, generator_loss, hinge_loss
from diffjscc.training.frozen import take_over
from diffjscc.training.loop import Log, Optimiser, Run, learning_rate_at, leave, swap_weights
from diffjscc.training.validation import open_images

TILE = DiffusionConfig().tile


class AdversarialLosses(nn.Module):
    """VAE and discriminator, and the losses of both; what a data-parallel wrapper wraps.

    Args:
        vae: the VAE in training.
        discriminator: its opponent.
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

    def forward(self, images: Tensor, seeds: Tensor, step: int) -> dict[str, Tensor]:
        """Losses by name of images [B, 3, H, W] in [0, 1], noise seeds [B]; "total" is reduced.

        The total's gradient improves the VAE against the discriminator and the discriminator
        against the VAE: neither part of it reaches the other's weights.
        """
        pixels = 2 * images - 1
        mean, log_variance = self.vae.quant_conv(self.vae.encoder(pixels)).chunk(2, dim=1)
        draws = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        noise = torch.stack([torch.randn(mean.shape[1:], generator=draw) for draw in draws])
        latent = mean + torch.exp(log_variance / 2) * noise.to(mean.device)
        (painted,) = self.vae.decode(latent, return_dict=False)
        losses = {
            "l1": (painted - pixels).abs().mean(),
            "lpips": self.lpips.distance((painted + 1) / 2, images).mean(),
        }
        total = self.weights.l1 * losses["l1"] + self.weights.lpips * losses["lpips"]
        if step >= self.weights.adversarial_start:
            losses["adversarial"] = generator_loss(self.discriminator, painted)
            losses["discriminator"] = hinge_loss(
                self.discriminator(pixels), self.discriminator(painted.detach())
            )
            total = total + self.weights.adversarial * losses["adversarial"]
            total = total + losses["discriminator"]
        return {"total": total, **losses}


def build(config: VAEConfig, init: str | None) -> AdversarialLosses:
    """The networks at the start of a run; `init` is described at `train`."""
    vae = CompactVAE(**config.vae.model_dump())
    if init is not None:
        take_over(Network("vae", vae), init, "VAE")
    vae = vae.to(memory_format=torch.channels_last)
    if config.freeze_encoder:
        vae.encoder.requires_grad_(False)
    discriminator = PatchDiscriminator(config.loss.discriminator_width)
    return AdversarialLosses(vae, discriminator, LPIPS.load("squeeze"), config.loss)


@torch.no_grad()
def validate(
    vae: CompactVAE, lpips: LPIPS, source: ImageSource, config: VAEConfig, log: Log, step: int
) -> None:
    """PSNR and LPIPS of whole images through the latent's mean."""
    device, cell = next(vae.parameters()).device, stride(vae)
    psnrs, distances = [], []
    for number in range(min(config.data.validation_images, len(source))):
        pixels = source[number]
        height, width = (side // cell * cell for side in pixels.shape[:2])
        original = torch.from_numpy(pixels[:height, :width].copy()).permute(2, 0, 1)[None]
        original = original.to(device).float() / 255
        image = decode(vae, encode(vae, original, TILE).mean, TILE).clamp(0, 1)
        psnrs.append(psnr(image, original).item())
        distances.append(lpips(image, original).item())
        if number < 2:
            log.images(step, f"original and decoded {number}", torch.cat((original, image)))
    log.numbers(step, {"psnr": float(np.mean(psnrs)), "lpips-squeeze": float(np.mean(distances))})


def training_mode(networks: nn.Module, vae: CompactVAE, config: VAEConfig) -> None:
    """Training mode, but for the latents' mean and variance where they are to stay."""
    networks.train()
    vae.quant_conv.train(not config.freeze_encoder)


def noise_seeds(seed: int, step: int, batch: int, process: int, processes: int) -> Tensor:
    """Seeds [b] of this process's images in iteration `step`."""
    seeds = np.random.default_rng([seed, 3, step]).integers(2**62, size=batch)
    share = batch // processes
    return torch.from_numpy(seeds[process * share : (process + 1) * share])


def train(config: VAEConfig, output: Path, init: str | None = None) -> Path:
    """Train, or go on training, in the folder `output`.

    Args:
        config: what to train, on what, and how.
        output: gets `checkpoint.pt`, `log.jsonl`, `tensorboard/`, `config.yaml` and `weights/vae`.
        init: weights whose VAE is gone on from.

    Returns:
        The folder that holds the averaged VAE as `vae/`.
    """
    training, validation = open_images(config.data)
    output.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision=config.run.precision)
    device, main = accelerator.device, accelerator.is_main_process
    share = accelerator.process_index, accelerator.num_processes
    crops = TrainingCrops(training, config.data.crop, config.run.seed, config.run.batch)

    set_seed(config.run.seed)
    built = build(config, init).to(device)
    vae, lpips, networks = built.vae, built.lpips, built.trained
    run = Run(networks, Optimiser(networks, config.optimiser), config, output)
    start = run.restore()
    game = accelerator.prepare(built)
    log = Log(output, start, as_yaml(config)) if main else None
    last = config.run.iterations
    training_mode(networks, vae, config)
    with Progress(disable=not main) as progress:
        task = progress.add_task("training", total=last, completed=start)
        batches = prefetch(lambda step: crops.batch_at(step, *share), start, last - start)
        for step, images in enumerate(batches, start):
            seeds = noise_seeds(config.run.seed, step, config.run.batch, *share)
            rate = learning_rate_at(step, last, config.optimiser)
            losses = game(images.to(device, memory_format=torch.channels_last), seeds, step)
            accelerator.backward(losses["total"])
            if config.optimiser.clip is not None:
                accelerator.clip_grad_norm_(vae.parameters(), config.optimiser.clip)
            run.optimiser.step(rate)
            run.averaged.update(networks, step)

            done = step + 1
            progress.update(task, completed=done)
            if log is None:
                continue
            if done % config.run.log_every == 0:
                values = {name: loss.item() for name, loss in losses.items()}
                log.numbers(done, {"learning rate": rate, **values})
            if done == last or done % config.run.checkpoint_every == 0:
                run.save(done)
            if validation and (done == last or done % config.run.validate_every == 0):
                with swap_weights(networks, run.averaged.state):
                    validate(vae, lpips, validation, config, log, done)
                training_mode(networks, vae, config)
    weights = output / "weights"
    if log is not None:
        log.close()
        weights.mkdir(exist_ok=True)
        with swap_weights(networks, run.averaged.state):
            save_network(Network("vae", vae), weights, torch.float32)
    leave(accelerator)
    return weights

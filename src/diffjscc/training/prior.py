"""Train a latent diffusion prior from scratch: `diffjscc train prior`.

Stable Diffusion in small: a UNet learns to predict the noise in noisy latents of photographs (Ho,
Jain, Abbeel, arXiv 2006.11239; Rombach et al., arXiv 2112.10752). It knows nothing of channels or
captions. The latents are computed once, by a VAE that `diffjscc train vae` made. Images, crops,
time steps and noise are functions of (seed, iteration), as in `jscc`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn

from diffjscc.configuration import as_yaml
from diffjscc.data.crops import prefetch
from diffjscc.data.sources import ImageSource
from diffjscc.pretrained.networks import Network, save_network
from diffjscc.refiners.latents import decode, encode, stride
from diffjscc.refiners.sampling import (
    SamplerConfig,
    gaussian,
    paper_scheduler,
    sample,
    signal_powers,
)
from diffjscc.refiners.vae import VAE
from diffjscc.training.config import PriorConfig, UNetArchitecture
from diffjscc.training.frozen import encoder_hash, load_vae, take_over
from diffjscc.training.latents import EpochOrder, ImageLatents, LatentFolder
from diffjscc.training.loop import Log, Optimiser, Run, learning_rate_at, leave, swap_weights
from diffjscc.training.noise import NoiseError, step_weights
from diffjscc.training.precompute import TILE, fill, fitted
from diffjscc.training.validation import open_images

SAMPLES = 4  # images that validation paints


def build(config: UNetArchitecture, latent_channels: int, init: str | None) -> UNet2DConditionModel:
    """A prior that reads no text, untrained or from the weights `init`."""
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


class PriorBatches:
    """Latents, noise and time steps of every iteration, by number, as `TrainingCrops` has crops.

    Args:
        latents: of the training images.
        config: seed and batch.
        size: side of the crops, in latent cells.
        time_steps: of the prior, in all.
    """

    def __init__(
        self, latents: LatentFolder, config: PriorConfig, size: int, time_steps: int
    ) -> None:
        self.latents, self.run = latents, config.run
        self.size, self.time_steps = size, time_steps
        self.order = EpochOrder(config.run.seed, len(latents), config.run.batch)

    def batch_at(
        self, step: int, process_index: int = 0, process_count: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One process's z_0 and noise, float32 [b, C, n, n], and t, int64 [b]."""
        share = self.run.batch // process_count
        clean, noise, steps = [], [], []
        for place in range(process_index * share, (process_index + 1) * share):
            rng = np.random.default_rng([self.run.seed, step, 1 + place])
            steps.append(int(rng.integers(self.time_steps)))
            corner = (rng.random(), rng.random())
            mean, deviation = self.latents.original(self.order(step, place), self.size, corner)
            drawn, added = torch.from_numpy(rng.standard_normal((2, *mean.shape), dtype=np.float32))
            clean.append(mean + deviation * drawn)
            noise.append(added)
        return torch.stack(clean), torch.stack(noise), torch.tensor(steps)


def precompute(config: PriorConfig, images: ImageSource, vae: VAE) -> LatentFolder:
    """The latents of all images; those that `config.latents` lacks are made first."""
    expected: dict[str, Any] = {
        "images": len(images),
        "images_fingerprint": images.fingerprint,
        "vae": encoder_hash(vae),
        "crop": config.data.crop,
        "short_side": config.short_side,
    }
    cell = stride(vae)

    @torch.no_grad()
    def encoded(pixels: NDArray[np.uint8], number: int, text: str | None) -> ImageLatents:
        del number, text  # nothing is sent, nothing is described
        image = fitted(pixels, config.data.crop, config.short_side, cell).to(vae.device)
        posterior = encode(vae, image, TILE)
        original = torch.cat((posterior.mean, posterior.deviation)).half().cpu()
        nothing = torch.empty(0)
        return ImageLatents(original, original[:0], nothing, nothing.long(), [])

    fill(config.latents, expected, images, encoded)
    return LatentFolder(config.latents, expected)


@torch.no_grad()
def validate(
    unet: UNet2DConditionModel, vae: VAE, config: PriorConfig, log: Log, step: int
) -> None:
    """Paint images from noise alone."""
    denoiser, size = UnconditionalDenoiser(unet), config.data.crop // stride(vae)
    shape = (SAMPLES, unet.config.in_channels, size, size)

    def predict(z: Tensor, t: int) -> Tensor:
        predicted: Tensor = denoiser(z, torch.full((len(z),), t, device=z.device))
        return predicted

    noise = gaussian(shape, torch.Generator().manual_seed(0), unet.device)
    latents = sample(predict, paper_scheduler(), SamplerConfig("dpm-solver++", 25), noise)
    log.images(step, "samples", decode(vae, latents, TILE))


def train(config: PriorConfig, output: Path, init: str | None = None) -> Path:
    """Train, or go on training, in the folder `output`.

    Args:
        config: what to train, on what, and how.
        output: gets `checkpoint.pt`, `log.jsonl`, `tensorboard/`, `config.yaml` and `weights/`.
        init: weights whose prior is gone on from.

    Returns:
        The folder of the prior with the averaged weights: vae/, unet/ and scheduler/.

    Raises:
        ValueError: a setting or weights that do not fit, or latents made with others.
    """
    images, _ = open_images(config.data)
    accelerator = Accelerator(mixed_precision=config.run.precision)
    device, main = accelerator.device, accelerator.is_main_process
    share = accelerator.process_index, accelerator.num_processes
    vae = load_vae(config.vae).to(device)
    latents = precompute(config, images, vae)
    powers = signal_powers(paper_scheduler())
    batches = PriorBatches(latents, config, config.data.crop // stride(vae), len(powers))

    set_seed(config.run.seed)
    unet = build(config.unet, vae.config.latent_channels, init).to(device)
    output.mkdir(parents=True, exist_ok=True)
    run = Run(unet, Optimiser(unet, config.optimiser), config, output)
    start, last = run.restore(), config.run.iterations
    weights = step_weights(powers, config.min_snr_gamma).to(device)
    error = accelerator.prepare(NoiseError(UnconditionalDenoiser(unet), powers.to(device)))
    log = Log(output, start, as_yaml(config)) if main else None
    losses: list[Tensor] = []
    unet.train()
    with Progress(disable=not main) as progress:
        task = progress.add_task("training", total=last, completed=start)
        read = prefetch(lambda step: batches.batch_at(step, *share), start, last - start)
        for step, batch in enumerate(read, start):
            rate = learning_rate_at(step, last, config.optimiser)
            clean, noise, t = (tensor.to(device) for tensor in batch)
            loss = (weights[t] * error(clean, noise, t)).mean()
            accelerator.backward(loss)
            if config.optimiser.clip is not None:
                accelerator.clip_grad_norm_(unet.parameters(), config.optimiser.clip)
            run.optimiser.step(rate)
            run.averaged.update(unet, step)

            done = step + 1
            progress.update(task, completed=done)
            if log is None:
                continue
            losses.append(loss.detach())
            if done % config.run.log_every == 0:
                mean = torch.stack(losses).mean().item()
                log.numbers(done, {"loss": mean, "learning rate": rate})
                losses.clear()
            if done == last or done % config.run.checkpoint_every == 0:
                run.save(done)
            if done == last or done % config.run.validate_every == 0:
                with swap_weights(unet, run.averaged.state):
                    validate(unet, vae, config, log, done)
    if log is not None:
        log.close()
        with swap_weights(unet, run.averaged.state):
            save_prior(unet, vae, output / "weights")
    leave(accelerator)
    return output / "weights"


def save_prior(unet: UNet2DConditionModel, vae: VAE, folder: Path) -> None:
    """Write what `load_prior` reads."""
    folder.mkdir(exist_ok=True)
    for network in (Network("unet", unet), Network("vae", vae)):
        save_network(network, folder, torch.float32)
    paper_scheduler().save_config(folder / "scheduler")

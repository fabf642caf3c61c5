"""What refiners that sample a frozen latent diffusion prior have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from diffjscc.refiners.devices import Placement
from diffjscc.refiners.guidance import NoiseSource
from diffjscc.refiners.latents import stride
from diffjscc.refiners.sampling import Progress, SamplerConfig, begin_index, gaussian, time_steps
from diffjscc.refiners.text import TextFeatures
from diffjscc.refiners.vae import VAE
from diffjscc.scheme import Generators, Received

# Rows of the images that begin at a step, their noise, that step, and whom to tell of progress,
# to their latents.
Draw = Callable[[list[int], NoiseSource, int, Progress], Tensor]


def check_prediction(scheduler: DDPMScheduler) -> None:
    """Raise ValueError unless the prior was trained to predict noise."""
    kind = scheduler.config.prediction_type
    if kind != "epsilon":
        raise ValueError(f"the prior predicts {kind!r}; priors that predict noise are needed")


def side_multiple(vae: VAE, unet: UNet2DConditionModel) -> int:
    """Pixels that the sides of images must be multiples of."""
    levels = len(unet.config.block_out_channels)
    return int(stride(vae) * 2 ** (levels - 1))


def reads_text(unet: UNet2DConditionModel) -> bool:
    """Whether any block of the prior attends to text features."""
    blocks = (*unet.down_blocks, unet.mid_block)
    return any(getattr(block, "has_cross_attention", False) for block in blocks)


def text_context(
    unet: UNet2DConditionModel, text: TextFeatures | None, texts: list[str], placement: Placement
) -> Tensor | None:
    """What the prior attends to, [B, L, d] for B texts; None if it attends to nothing.

    A prior that attends to text but comes without text features reads a single zero.
    """
    if not reads_text(unet):
        return None
    if text is None:
        width = unet.config.cross_attention_dim
        return torch.zeros(len(texts), 1, width, dtype=unet.dtype, device=placement.device)
    with placement.holding(text.encoder):
        return text(texts)


def bits_per_pixel(received: Received) -> list[float]:
    """What the link can tell of a pixel of each image received: R·log2(1 + SNR)."""
    snrs = 10 ** (received.snr_db.double() / 10)
    bits: list[float] = (received.rate * torch.log2(1 + snrs)).tolist()
    return bits


def start_levels(sampler: SamplerConfig, received: Received) -> list[float]:
    """Where sampling begins for each image received; see `SamplerConfig`."""
    return [sampler.start_level(bits) for bits in bits_per_pixel(received)]


def check_generators(generator: Generators, draws: int) -> None:
    """Raise ValueError where there are several generators, but not one for each draw."""
    if isinstance(generator, Sequence) and len(generator) != draws:
        raise ValueError(f"{len(generator)} generators for {draws} draws; give one or each")


def sample_groups(
    draw: Draw,
    shape: tuple[int, ...],
    levels: list[float],
    sampler: SamplerConfig,
    scheduler: DDPMScheduler,
    generator: Generators,
    device: torch.device,
    progress: Progress | None = None,
) -> Tensor:
    """Sample images that begin at the same step together, the others by themselves.

    Args:
        draw: samples those of one step.
        shape: of the latents, (B, C, h, w).
        levels: B start levels; see `SamplerConfig`.
        sampler: sampler and steps.
        scheduler: the noise that the prior was trained with.
        generator: one, or B.
        device: where to sample.
        progress: told (steps done, steps in all) over all groups.

    Returns:
        float32 [B, C, h, w]; latents at level 0, which nobody looks at, are zero.
    """
    latents = torch.zeros(shape, device=device)
    steps = len(time_steps(sampler, scheduler))
    groups: dict[int, list[int]] = {}
    for row, level in enumerate(levels):
        if level > 0:
            groups.setdefault(begin_index(sampler, scheduler, level), []).append(row)
    done, total = 0, sum(steps - begin for begin in groups)

    def report(step: int, _: int) -> None:
        if progress is not None:
            progress(done + step, total)

    for begin, rows in sorted(groups.items()):
        own = [generator[i] for i in rows] if isinstance(generator, Sequence) else generator
        noise = gaussian((len(rows), *shape[1:]), own, device)
        latents[rows] = draw(rows, noise, begin, report)
        done += steps - begin
    return latents

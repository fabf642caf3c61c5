"""Functions shared by refiners that sample a frozen latent diffusion prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffjscc.refiners.devices import Placement
from diffjscc.refiners.guidance import NoiseSource
from diffjscc.refiners.latents import stride
from diffjscc.refiners.library import DDPMScheduler, UNet2DConditionModel
from diffjscc.refiners.sampling import Progress, SamplerConfig, begin_index, gaussian, steps_from
from diffjscc.refiners.text import TextFeatures
from diffjscc.refiners.vae import VAE
from diffjscc.symbols import Generators, Received

# Maps (rows of images that start at the same step, noise source, index of that step, progress
# callback) to their latents.
SampleGroup = Callable[[list[int], NoiseSource, int, Progress], Tensor]


def check_prediction(scheduler: DDPMScheduler) -> None:
    """Raise ValueError unless the prior was trained to predict noise."""
    kind = scheduler.config.prediction_type
    if kind != "epsilon":
        raise ValueError(f"the prior predicts {kind!r}; priors that predict noise are needed")


def side_multiple(vae: VAE, unet: UNet2DConditionModel) -> int:
    """Return the number of pixels that image sides must be multiples of."""
    levels = len(unet.config.block_out_channels)
    return int(stride(vae) * 2 ** (levels - 1))


def reads_text(unet: UNet2DConditionModel) -> bool:
    """Return whether any block of the prior attends to text features."""
    blocks = (*unet.down_blocks, unet.mid_block)
    return any(getattr(block, "has_cross_attention", False) for block in blocks)


def text_context(
    unet: UNet2DConditionModel, text: TextFeatures | None, texts: list[str], placement: Placement
) -> Tensor | None:
    """Encode B texts for the prior's cross attention, [B, L, d]; None if it has none.

    A prior with cross attention but without text features attends to a single zero vector.
    """
    if not reads_text(unet):
        return None
    if text is None:
        width = unet.config.cross_attention_dim
        return torch.zeros(len(texts), 1, width, dtype=unet.dtype, device=placement.device)
    with placement.holding(text.encoder):
        return text(texts)


def bits_per_pixel(received: Received) -> list[float]:
    """Compute the channel capacity per pixel, R·log2(1 + SNR), of each image in bits."""
    snrs = 10 ** (received.snr_db.cpu().double() / 10)  # not every device has float64
    bits: list[float] = (received.rate * torch.log2(1 + snrs)).tolist()
    return bits


def start_levels(sampler: SamplerConfig, received: Received) -> list[float]:
    """Compute the start level of each image; see `SamplerConfig`."""
    return [sampler.start_level(bits) for bits in bits_per_pixel(received)]


def check_generators(generator: Generators, samples: int) -> None:
    """Raise ValueError unless there is one generator, one per sample, or None."""
    if isinstance(generator, Sequence) and len(generator) != samples:
        raise ValueError(
            f"{len(generator)} generators for {samples} samples; give one, or one per sample"
        )


def sample_groups(
    sample_group: SampleGroup,
    shape: tuple[int, ...],
    levels: list[float],
    sampler: SamplerConfig,
    scheduler: DDPMScheduler,
    generator: Generators,
    device: torch.device,
    progress: Progress | None = None,
) -> Tensor:
    """Sample latents; images that start at the same step are sampled together.

    Args:
        sample_group: samples the images that start at the same step.
        shape: shape of the latents, (B, C, h, w).
        levels: start level of each of the B images; see `SamplerConfig`.
        sampler: sampler and number of steps.
        scheduler: noise schedule of the prior.
        generator: one, or B.
        device: device of the latents.
        progress: called with (steps done, steps in all), counted over all groups.

    Returns:
        float32 [B, C, h, w]; latents at level 0 are not sampled and are zero.
    """
    latents = torch.zeros(shape, device=device)
    groups: dict[int, list[int]] = {}
    for row, level in enumerate(levels):
        if level > 0:
            groups.setdefault(begin_index(sampler, scheduler, level), []).append(row)
    counts = {begin: len(steps_from(sampler, scheduler, begin)) for begin in groups}
    done, total = 0, sum(counts.values())

    def report(step: int, _: int) -> None:
        if progress is not None:
            progress(done + step, total)

    for begin, rows in sorted(groups.items()):
        own = [generator[i] for i in rows] if isinstance(generator, Sequence) else generator
        noise = gaussian((len(rows), *shape[1:]), own, device)
        latents[rows] = sample_group(rows, noise, begin, report)
        done += counts[begin]
    return latents

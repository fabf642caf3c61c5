"""Samplers of the prior's latents: the paper's spaced DDPM, and faster solvers."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from diffjscc.choices import SamplerName, Start
from diffjscc.refiners.guidance import LatentGuidance, NoiseSource
from diffjscc.refiners.library import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)
from diffjscc.symbols import Generators

# Maps a noisy latent [B, C, h, w] and a time step to the predicted noise.
Predict = Callable[[Tensor, int], Tensor]
# Maps the estimate x̂₀ [B, C, h, w] of the clean latent and a time step to a corrected estimate.
Correct = Callable[[Tensor, int], Tensor]
# Called with (steps done, steps in all).
Progress = Callable[[int, int], None]
# Called with the estimate x̂₀ [B, C, h, w] of the clean latent.
Estimated = Callable[[Tensor], None]
# (channel capacity in bits per pixel, value), ascending in bits.
ByBits = tuple[tuple[float, float], ...]


def check_by_bits(name: str, curve: ByBits) -> None:
    """Raise ValueError unless `curve` has ascending bits above 0 and values in [0, 1]."""
    bits = [bits for bits, _ in curve]
    if not bits or bits[0] <= 0 or bits != sorted(set(bits)):
        raise ValueError(f"{name} is {curve}; give ascending bits per pixel above 0")
    if not all(0 <= value <= 1 for _, value in curve):
        raise ValueError(f"{name} is {curve}; values are in [0, 1]")


def at_bits(curve: ByBits, bits: float) -> float:
    """Interpolate a curve at `bits` per pixel: linear in log(bits), constant beyond the ends."""
    places = [math.log(place) for place, _ in curve]
    return float(np.interp(math.log(max(bits, 1e-30)), places, [value for _, value in curve]))


@dataclass(frozen=True)
class SamplerConfig:
    """Sampler, number of steps and start of sampling.

    With start "initial", sampling starts not at pure noise but at the initial image's latent with
    the noise of an intermediate time step. That step is given by the start level, a fraction of
    all time steps: `start_levels` maps the channel capacity per pixel, R·log2(1 + SNR) bits, to
    it. The larger the capacity, the later sampling starts; at level 0 the initial image is kept.

    Attributes:
        name: "ddpm" is the paper's (100 steps); the others are deterministic given the first
            noise and need 10 to 30 steps.
        num_inference_steps: sampling steps from pure noise, 1 to 1000; a later start takes fewer.
        start: "noise" or "initial".
        start_levels: (bits per pixel, start level in [0, 1]), see `at_bits`.
        distilled_steps: for a control module that was distilled to so few: the number of DDIM
            steps taken, evenly spaced from the time step at which sampling begins, one of those
            of `num_inference_steps`; see `training.distillation`. None takes all of these.
    """

    name: SamplerName = "ddpm"
    num_inference_steps: int = 100
    start: Start = "noise"
    start_levels: ByBits = ((0.01, 0.7), (0.3, 0.0))
    distilled_steps: int | None = None

    def __post_init__(self) -> None:
        for field, kind in (("name", SamplerName), ("start", Start)):
            if getattr(self, field) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ValueError(f"sampler {field} is {getattr(self, field)!r}; known: {known}")
        if not 1 <= self.num_inference_steps <= 1000:
            raise ValueError(
                f"num_inference_steps is {self.num_inference_steps}; it must be 1 to 1000"
            )
        check_by_bits("start_levels", self.start_levels)
        few = self.distilled_steps
        if few is not None and not 1 <= few <= self.num_inference_steps:
            raise ValueError(
                f"distilled_steps is {few}; it must be 1 to num_inference_steps, "
                f"{self.num_inference_steps}"
            )
        if few is not None and self.name != "ddim":
            raise ValueError(f'distilled_steps is {few} and the sampler "{self.name}"; use "ddim"')

    def start_level(self, bits: float) -> float:
        """Return the start level of an image with a capacity of `bits` per pixel."""
        if self.start == "noise":
            return 1.0
        return at_bits(self.start_levels, bits)


def paper_scheduler() -> DDPMScheduler:
    """Create the noise schedule of Stable Diffusion, with the paper's spacing of steps."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.0120,
        beta_schedule="scaled_linear",
        variance_type="fixed_small",
        clip_sample=False,
        timestep_spacing="linspace",
    )


def signal_powers(scheduler: DDPMScheduler) -> Tensor:
    """Compute ᾱ of every time step, float64 [T]: z_t = sqrt(ᾱ)·z_0 + sqrt(1 - ᾱ)·noise."""
    return torch.cumprod(1 - scheduler.betas.double(), dim=0)


def gaussian(
    shape: tuple[int, ...], generator: Generators, device: torch.device | str
) -> NoiseSource:
    """Create a source of N(0, 1) noise of shape [B, …], from one generator or one per image.

    Noise is sampled on the generator's device: a CPU generator gives the same numbers everywhere.
    """

    def normal(size: tuple[int, ...], source: torch.Generator | None) -> Tensor:
        where = source.device if source is not None else device
        return torch.randn(size, generator=source, device=where).to(device)

    if not isinstance(generator, Sequence):
        return lambda: normal(shape, generator)
    if len(generator) != shape[0]:
        raise ValueError(
            f"{len(generator)} generators for {shape[0]} images; give one, or one per image"
        )
    return lambda: torch.cat([normal((1, *shape[1:]), source) for source in generator])


def make_solver(
    config: SamplerConfig, scheduler: DDPMScheduler
) -> DPMSolverMultistepScheduler | UniPCMultistepScheduler:
    """Create a solver other than DDPM for the noise schedule, with its steps set.

    Steps are spaced after Karras et al., arXiv 2206.00364: with uniform spacing the last step,
    from noise level 1/N to 0, is so long that it blurs.
    """
    kind = UniPCMultistepScheduler if config.name == "unipc" else DPMSolverMultistepScheduler
    # `from_config` would import every scheduler that there is.
    known = inspect.signature(kind).parameters
    settings = {key: value for key, value in scheduler.config.items() if key in known}
    if config.name != "unipc":
        # DDIM is the first-order solver; diffusers' DDIM is exact only if N divides 1000.
        settings["solver_order"] = 1 if config.name == "ddim" else 2
    solver = kind(**settings | {"use_karras_sigmas": True})
    with warnings.catch_warnings():
        # It hands tensors to NumPy, which misses a keyword of theirs and copies them all the same.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        solver.set_timesteps(config.num_inference_steps)
    return solver


def time_steps(config: SamplerConfig, scheduler: DDPMScheduler) -> list[int]:
    """List the time steps of a sampler, descending; those of "ddpm" are evenly spaced."""
    if config.name != "ddpm":
        steps: list[int] = make_solver(config, scheduler).timesteps.tolist()
        return steps
    last: int = scheduler.config.num_train_timesteps - 1
    if config.num_inference_steps == 1:
        return [last]
    return [int(t) for t in np.linspace(0, last, config.num_inference_steps).round()[::-1]]


def steps_from(config: SamplerConfig, scheduler: DDPMScheduler, begin: int) -> list[int]:
    """List the time steps that are taken where the first `begin` of `time_steps` are skipped."""
    steps, few = time_steps(config, scheduler)[begin:], config.distilled_steps
    if few is None:
        return steps
    return [round(steps[0] * (few - index) / few) for index in range(few)]


def begin_index(config: SamplerConfig, scheduler: DDPMScheduler, level: float) -> int:
    """Count the `time_steps` that an image skips: those above its start level."""
    steps = time_steps(config, scheduler)
    limit: float = level * scheduler.config.num_train_timesteps
    return min(sum(int(t >= limit) for t in steps), len(steps) - 1)


def sample(
    predict: Predict,
    scheduler: DDPMScheduler,
    config: SamplerConfig,
    noise: NoiseSource,
    *,
    initial: Tensor | None = None,
    begin: int = 0,
    correct: Correct | None = None,
    guide: LatentGuidance | None = None,
    progress: Progress | None = None,
    estimated: Estimated | None = None,
) -> Tensor:
    """Sample latents.

    Args:
        predict: noise prediction of the prior.
        scheduler: noise schedule of the prior.
        config: sampler and number of steps.
        noise: called for the initial noise and, by "ddpm", once per step but the last.
        initial: latent [B, C, h, w] to start from, with noise added; None starts at pure noise.
        begin: number of `time_steps` to skip.
        correct: correction of x̂₀, applied before it is used.
        guide: latent guidance. Where x̂₀ is shifted by δ, "ddpm" moves the mean by δ/2, as the
            released code does; the other samplers continue from the shifted x̂₀.
        progress: called with (steps done, steps in all) after every step.
        estimated: called with x̂₀ after every step, before `progress`.

    Returns:
        float32 [B, C, h, w].
    """
    powers: list[float] = signal_powers(scheduler).tolist()
    steps = steps_from(config, scheduler, begin)
    powers_before = [*(powers[t] for t in steps[1:]), 1.0]
    solver = None
    if config.name != "ddpm" and config.distilled_steps is None:
        solver = make_solver(config, scheduler)
        solver.set_begin_index(begin)

    z = noise()
    if initial is not None:
        z = math.sqrt(powers[steps[0]]) * initial + math.sqrt(1 - powers[steps[0]]) * z
    for index, (t, power_before) in enumerate(zip(steps, powers_before, strict=True)):
        predicted, power = predict(z, t), powers[t]
        clean = (z - math.sqrt(1 - power) * predicted) / math.sqrt(power)
        if correct is not None:
            clean = correct(clean, t)
            predicted = (z - math.sqrt(power) * clean) / math.sqrt(1 - power)
        shift = None if guide is None else guide(clean, t)
        if config.distilled_steps is not None:
            clean = clean if shift is None else clean + shift
            z = ddim_step(z, clean, power, power_before)
        elif solver is None:
            z = ddpm_mean(z, clean, power, power_before)
            if shift is not None:
                z = z + shift / 2
            if power_before < 1:
                z = z + math.sqrt(ddpm_variance(power, power_before)) * noise()
        else:
            if shift is not None:
                predicted = predicted - math.sqrt(power / (1 - power)) * shift
            z = solver.step(predicted, t, z, return_dict=False)[0]
        if estimated is not None:
            estimated(clean)
        if progress is not None:
            progress(index + 1, len(steps))
    return z


def ddim_step(z: Tensor, clean: Tensor, power: float, power_before: float) -> Tensor:
    """Compute z at an earlier time step from the same noise (Song et al., arXiv 2010.02502).

    Arguments as for `ddpm_mean`.
    """
    noise = (z - math.sqrt(power) * clean) / math.sqrt(1 - power)
    return math.sqrt(power_before) * clean + math.sqrt(1 - power_before) * noise


def ddpm_mean(z: Tensor, clean: Tensor, power: float, power_before: float) -> Tensor:
    """Compute the mean of z at the previous kept step, given z and the estimate x̂₀.

    Ho, Jain, Abbeel, arXiv 2006.11239, equation 7, with β = 1 - ᾱ/ᾱ₋ of the kept steps.

    Args:
        z: noisy latent [B, C, h, w].
        clean: x̂₀, of the same shape.
        power: ᾱ at this step.
        power_before: ᾱ₋ at the previous kept step; 1 for the clean latent.
    """
    beta = 1 - power / power_before
    of_clean = math.sqrt(power_before) * beta / (1 - power)
    of_z = math.sqrt(power / power_before) * (1 - power_before) / (1 - power)
    return of_clean * clean + of_z * z


def ddpm_variance(power: float, power_before: float) -> float:
    """Compute the variance β(1 - ᾱ₋)/(1 - ᾱ) around `ddpm_mean`."""
    return (1 - power / power_before) * (1 - power_before) / (1 - power)

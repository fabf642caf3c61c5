"""Samplers and guidance, with a prior that is known exactly."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffjscc.refiners import guidance, sampling
from diffjscc.refiners.guidance import GuidanceConfig
from diffjscc.refiners.latents import Posterior
from diffjscc.refiners.sampling import SamplerConfig
from toy_refiner import generators


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


MEAN, DEVIATION = 0.7, 0.3


def of_gaussian_images(z: Tensor, t: int) -> Tensor:
    """The exact noise prediction where every latent value is N(MEAN, DEVIATION²)."""
    power = sampling.signal_powers(sampling.paper_scheduler())[t].item()
    return (1 - power) ** 0.5 * (z - power**0.5 * MEAN) / (power * DEVIATION**2 + 1 - power)


def flow_of_gaussian_images(start: Tensor) -> Tensor:
    """Where the probability flow of that prior takes noise [B, C, h, w] at the last time step."""
    power = sampling.signal_powers(sampling.paper_scheduler())[-1].item()
    spread = (power * DEVIATION**2 + 1 - power) ** 0.5
    return MEAN + DEVIATION * (start - power**0.5 * MEAN) / spread


@pytest.mark.parametrize(("steps", "deviation"), [(1000, 0.297), (100, 0.271)])
def test_ddpm_draws_from_the_priors_distribution(steps: int, deviation: float) -> None:
    # With the smaller of the two usual variances, few steps make too little variety.
    noise = sampling.gaussian((1, 4, 64, 64), generators(1)[0], "cpu")
    config = SamplerConfig("ddpm", steps)
    z = sampling.sample(of_gaussian_images, sampling.paper_scheduler(), config, noise)
    assert z.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert z.std().item() == pytest.approx(deviation, rel=0.02)


def test_fast_samplers_converge_to_the_flow_that_they_solve() -> None:
    start = torch.randn(1, 4, 64, 64)
    exact = flow_of_gaussian_images(start)

    def draw(name: str, steps: int) -> Tensor:
        config = SamplerConfig(name, steps)
        scheduler = sampling.paper_scheduler()
        return sampling.sample(of_gaussian_images, scheduler, config, lambda: start)

    def error(name: str, steps: int) -> float:
        return (draw(name, steps) - exact).abs().max().item()

    assert error("ddim", 80) < 0.4 * error("ddim", 20)
    for name in ("dpm-solver++", "unipc"):
        assert error(name, 20) < 0.02
        assert error(name, 20) < 0.2 * error("ddim", 20)
        assert draw(name, 20).std().item() == pytest.approx(exact.std().item(), rel=0.02)


def test_ddpm_is_diffusers_ddpm() -> None:
    scheduler = sampling.paper_scheduler()
    shape, steps = (2, 4, 8, 8), 10
    noise = sampling.gaussian(shape, generators(5)[0], "cpu")
    config = SamplerConfig("ddpm", steps)
    ours = sampling.sample(of_gaussian_images, scheduler, config, noise)
    generator = generators(5)[0]
    z = torch.randn(shape, generator=generator)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        z = scheduler.step(of_gaussian_images(z, int(t)), t, z, generator).prev_sample
    torch.testing.assert_close(ours, z, rtol=1e-4, atol=1e-4)
    for steps in range(2, 1001):
        scheduler.set_timesteps(steps)
        own = sampling.time_steps(SamplerConfig("ddpm", steps), scheduler)
        assert own == scheduler.timesteps.tolist()


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm-solver++", "unipc"])
def test_a_single_step_goes_from_noise_to_the_mean(name) -> None:
    noise = sampling.gaussian((1, 4, 32, 32), generators(1)[0], "cpu")
    config = SamplerConfig(name, num_inference_steps=1)
    z = sampling.sample(of_gaussian_images, sampling.paper_scheduler(), config, noise)
    assert z.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert z.std().item() < 0.05


def test_the_better_the_channel_the_later_sampling_starts() -> None:
    config = SamplerConfig("ddpm", 100, "initial", ((0.01, 0.8), (0.04, 0.4), (0.64, 0.0)))
    scheduler = sampling.paper_scheduler()
    levels = [config.start_level(bits) for bits in (0, 0.01, 0.02, 0.04, 0.16, 0.64, 9)]
    assert levels == pytest.approx([0.8, 0.8, 0.6, 0.4, 0.2, 0, 0])
    assert SamplerConfig().start_level(9) == 1  # the paper's: from noise, always
    steps = sampling.time_steps(config, scheduler)
    for level in (0.8, 0.6, 0.1):
        begin = sampling.begin_index(config, scheduler, level)
        assert steps[begin] < 1000 * level <= steps[begin - 1]
    assert sampling.begin_index(config, scheduler, 1.0) == 0


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm-solver++", "unipc"])
def test_a_late_start_keeps_more_of_the_initial_latent(name) -> None:
    initial = torch.zeros(1, 4, 32, 32)
    drift = []
    for level in (0.1, 0.3, 0.6):
        config = SamplerConfig(name, 50, "initial")
        scheduler = sampling.paper_scheduler()
        begin = sampling.begin_index(config, scheduler, level)
        counts = []
        z = sampling.sample(
            of_gaussian_images,
            scheduler,
            config,
            sampling.gaussian((1, 4, 32, 32), generators(2)[0], "cpu"),
            initial=initial,
            begin=begin,
            progress=lambda done, total, counts=counts: counts.append((done, total)),
        )
        assert counts[-1] == (50 - begin, 50 - begin)
        drift.append(z.mean().item())
    assert 0 < drift[0] < drift[1] < drift[2] < MEAN + 0.02


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "euler"}, "sampler name is 'euler'; known: ddpm, ddim"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0; it must be 1 to 1000"),
        ({"start": "middle"}, "sampler start is 'middle'; known: noise, initial"),
        ({"start_levels": ((5.0, 0.5), (1.0, 0.7))}, "give ascending bits per pixel"),
        ({"start_levels": ((0.0, 0.5),)}, "bits per pixel above 0"),
        ({"start_levels": ((1.0, 1.1),)}, r"values are in \[0, 1\]"),
    ],
)
def test_wrong_sampler_settings_are_named(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**wrong)


@pytest.mark.parametrize("name", ["ddpm", "dpm-solver++"])
def test_guidance_pulls_the_latent_to_the_initial_one(name) -> None:
    target = torch.full((1, 4, 8, 8), -1.0)
    posterior = Posterior(target, torch.zeros_like(target))
    distances = []
    for scale in (0.0, 20.0, 100.0):
        noise = sampling.gaussian((1, 4, 8, 8), generators(3)[0], "cpu")
        config = GuidanceConfig(scale)
        guide = guidance.LatentGuidance(config, posterior, noise)
        z = sampling.sample(
            of_gaussian_images,
            sampling.paper_scheduler(),
            SamplerConfig(name, 20),
            noise,
            guide=guide,
        )
        distances.append((z - target).square().mean().item())
    assert distances[1] < 0.9 * distances[0]
    assert distances[2] < 0.7 * distances[1]


def test_guidance_is_the_formula_and_keeps_its_window() -> None:
    clean, target = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    posterior = Posterior(target, torch.ones_like(target))
    config = GuidanceConfig(scale=30.0, t_start=900, t_stop=200, repeat=2)
    shift = guidance.LatentGuidance(config, posterior, lambda: torch.zeros(()))
    rate = 30.0 / (4 * 3 * 5)
    torch.testing.assert_close(shift(clean, 500), (1 - (1 - rate) ** 2) * (target - clean))
    assert [t for t in range(1000) if config.acts_at(t)] == list(range(200, 899))
    assert shift(clean, 899) is None
    drawn = replace(config, target="sample", repeat=1)
    shift = guidance.LatentGuidance(drawn, posterior, lambda: torch.full((), 2.0))
    torch.testing.assert_close(shift(clean, 500), rate * (target + 2 - clean))

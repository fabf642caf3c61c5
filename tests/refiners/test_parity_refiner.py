"""The diffusion receiver against numbers recorded from the released implementation.

A miniature checkpoint in the released layout goes through the converter; what is loaded from
there must give what was recorded.
"""

import gzip
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from diffjscc.pretrained.receiver import load_refiner
from diffjscc.refiners import colour
from diffjscc.refiners.conditions import Conditions
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.guidance import GuidanceConfig
from diffjscc.refiners.latents import ConditionEncoder, decode
from diffjscc.refiners.sampling import (
    SamplerConfig,
    ddpm_mean,
    ddpm_variance,
    paper_scheduler,
    signal_powers,
    time_steps,
)
from diffjscc.refiners.text import TextFeatures
from recordings import recorded_numbers, recorded_tensors

STEPS = [2, 5, 10, 20, 50, 100, 250]


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.float(), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def refiner(converted: Path) -> ControlledDiffusion:
    refiner = load_refiner(converted)
    refiner.config = DiffusionConfig(sampler=SamplerConfig("ddpm", num_inference_steps=10))
    return refiner


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def control() -> dict[str, Tensor]:
    return recorded_tensors("cldm_mini.control.io")


@dataclass
class Pipeline:
    """The recorded run of the whole receiver."""

    tensors: dict[str, Tensor]
    conditions: Conditions

    def noise(self):
        """The first noise, then that of the steps."""
        return iter([self.tensors["x_T"], *self.tensors["step_noise"]]).__next__


@pytest.fixture(scope="module")
def pipeline(refiner: ControlledDiffusion) -> Pipeline:
    tensors = recorded_tensors("cldm_mini.pipeline.io")
    assert refiner.text is not None
    with torch.no_grad():
        conditions = Conditions(
            refiner.condition(tensors["img_init"]),
            tensors["snr_db"][:, 0],
            refiner.text.features(tensors["token_ids"]),
            refiner.posterior(tensors["img_init"]),
        )
    return Pipeline(tensors, conditions)


@pytest.fixture(scope="module")
def trajectory(refiner: ControlledDiffusion, pipeline: Pipeline) -> list[Tensor]:
    """The latent before each of the ten steps, and after the last."""
    visited = []
    predict = refiner.predict_noise

    def watched(z_t: Tensor, *others: object) -> Tensor:
        visited.append(z_t)
        return predict(z_t, *others)

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(refiner, "predict_noise", watched)
        z = refiner.sample_latents(pipeline.conditions, pipeline.noise())
    return [*visited, z]


def test_at_the_papers_scale_the_networks_have_the_released_parameters() -> None:
    counts = recorded_numbers("param_counts")
    with torch.device("meta"):
        control, encoder = ControlModule(), ConditionEncoder()
    for network, name in ((control, "control_model"), (encoder, "cond_encoder")):
        assert sum(p.numel() for p in network.parameters()) == counts[name]["params"]


def test_the_control_module_gives_the_recorded_residuals(refiner, control) -> None:
    skips, middle = refiner.denoiser.control(
        control["zt"], control["t"], control["hint"], control["snr_db"][:, 0], control["context"]
    )
    assert len(skips) == 12
    for index, residual in enumerate([*skips, middle]):
        close(residual, control[f"control_{index:02d}"])


@pytest.mark.parametrize(
    ("name", "control_scale"), [("eps", 1.0), ("eps_strength_half", 0.5), ("eps_no_control", 0.0)]
)
def test_the_prior_predicts_the_recorded_noise(refiner, control, name, control_scale) -> None:
    predicted = refiner.denoiser(
        control["zt"],
        control["t"],
        control["hint"],
        control["snr_db"][:, 0],
        control["context"],
        control_scale=control_scale,
    )
    close(predicted, control[name])


def test_the_vae_gives_the_recorded_latents_and_images(refiner) -> None:
    recorded = recorded_tensors("cldm_mini.vae.io")
    images = recorded["image_u8"].float() / 255
    vae = refiner.vae
    close(vae.quant_conv(vae.encoder(2 * images - 1)), recorded["moments"])
    posterior = refiner.posterior(images)
    scale = vae.config.scaling_factor
    close(posterior.mean / scale, recorded["mean"])
    close(2 * torch.log(posterior.deviation / scale), recorded["logvar_clamped"])
    close(posterior.mean, recorded["mode_scaled"])
    close(posterior.sample(recorded["sample_unit_normal"]), recorded["sample_scaled"])
    close(refiner.condition(images), recorded["cond_latent"])
    close(2 * decode(refiner.vae, recorded["z"], refiner.config.tile) - 1, recorded["decoded"])


def test_the_text_encoder_gives_the_recorded_features(refiner) -> None:
    recorded = recorded_tensors("cldm_mini.text.io")
    close(refiner.text.features(recorded["token_ids"]), recorded["penultimate_ln_final"])


def test_token_ids_are_the_recorded_ones(refiner) -> None:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("CLIP's vocabulary is not at hand (it comes with open_clip_torch)")
    path = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    merges = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = len(set(range(256)) - set(visible))
    letters = [chr(code) for code in visible] + [chr(256 + n) for n in range(hidden)]
    words = [*letters, *(f"{x}</w>" for x in letters), *(m.replace(" ", "") for m in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=[tuple(m.split()) for m in merges],
    )
    recorded = recorded_numbers("tokens")
    tokens = TextFeatures(refiner.text.encoder, tokenizer).tokens(recorded["texts"])
    assert tokens.tolist() == recorded["token_ids"]


def test_embeddings_of_step_and_snr_are_the_recorded_ones() -> None:
    recorded = recorded_tensors("embeddings")
    for width in (32, 320):
        for scale in (1, 100):
            for offset in (0, -5):
                module = ControlModule(
                    block_out_channels=(width,),
                    down_block_types=("DownBlock2D",),
                    mid_block_type="UNetMidBlock2D",
                    attention_head_dim=1,
                    snr_scale=scale,
                    min_snr=offset,
                ).bfloat16()
                seen = []
                module.class_embedding.register_forward_pre_hook(
                    lambda _, inputs, seen=seen: seen.append(inputs[0])
                )
                snr_db = recorded["snr_db"][:, 0]
                latent = torch.zeros(len(snr_db), 4, 2, 2, dtype=torch.bfloat16)
                steps = torch.zeros(len(snr_db), dtype=torch.int64)
                module(latent, steps, latent, snr_db, None)
                close(seen[0], recorded[f"snr_embedding_dim{width}_scale{scale}_min{offset}"])
        close(module.time_proj(recorded["timesteps"]), recorded[f"timestep_embedding_{width}"])


@pytest.mark.parametrize("count", STEPS)
def test_spaced_ddpm_has_the_recorded_steps_and_coefficients(count: int) -> None:
    recorded = recorded_tensors("schedule")
    scheduler = paper_scheduler()
    steps = time_steps(SamplerConfig("ddpm", count), scheduler)[::-1]
    assert steps == recorded[f"steps{count}.timesteps"].tolist()
    scheduler.set_timesteps(count)
    assert scheduler.timesteps.tolist() == steps[::-1]
    powers = signal_powers(scheduler)[steps].tolist()
    np.testing.assert_allclose(powers, recorded[f"steps{count}.alphas_cumprod"], rtol=1e-6)
    before = [1.0, *powers[:-1]]
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    computed = {
        "betas": [1 - p / b for p, b in zip(powers, before, strict=True)],
        "posterior_variance": [ddpm_variance(p, b) for p, b in zip(powers, before, strict=True)],
        "posterior_mean_coef1": [
            ddpm_mean(zero, one, p, b) for p, b in zip(powers, before, strict=True)
        ],
        "posterior_mean_coef2": [
            ddpm_mean(one, zero, p, b) for p, b in zip(powers, before, strict=True)
        ],
    }
    for name, values in computed.items():
        expected = recorded[f"steps{count}.{name}"].numpy()
        np.testing.assert_allclose(
            [float(value) for value in values], expected, rtol=2e-6, atol=1e-12, err_msg=name
        )


def test_the_noise_of_all_steps_is_the_recorded_one() -> None:
    recorded = recorded_tensors("schedule")
    scheduler = paper_scheduler()
    np.testing.assert_allclose(scheduler.betas, recorded["steps1000.betas"], rtol=1e-6)
    powers = signal_powers(scheduler)
    np.testing.assert_allclose(powers, recorded["steps1000.alphas_cumprod"], rtol=1e-6)


def test_conditions_of_the_whole_run_are_the_recorded_ones(pipeline: Pipeline) -> None:
    assert pipeline.conditions.context is not None
    close(pipeline.conditions.context, pipeline.tensors["context"])


def test_ten_steps_follow_the_recorded_trajectory(trajectory, pipeline: Pipeline) -> None:
    close(trajectory[0], pipeline.tensors["x_T"])
    for after, expected in zip(trajectory[1:], pipeline.tensors["trajectory"], strict=True):
        close(after, expected)
    close(trajectory[-1], pipeline.tensors["z0"])


@pytest.mark.parametrize(
    ("name", "guidance", "skipped"),
    [
        ("guided_r1_z0", GuidanceConfig(scale=100, target="sample"), 0),
        # The released code drew one sample too many at each step before guidance began.
        ("guided_r2_t900_200_z0", GuidanceConfig(100, 900, 200, repeat=2, target="sample"), 1),
    ],
)
def test_guided_runs_end_where_the_recorded_ones_did(
    refiner, pipeline: Pipeline, name: str, guidance: GuidanceConfig, skipped: int
) -> None:
    samples = iter(pipeline.tensors["guidance_posterior_unit_normal"][skipped:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refiner, "config", replace(refiner.config, latent_guidance=guidance))
        z = refiner.sample_latents(
            pipeline.conditions, pipeline.noise(), guidance_noise=samples.__next__
        )
    close(z, pipeline.tensors[name])


def test_the_image_and_its_colours_are_the_recorded_ones(
    refiner, pipeline: Pipeline, trajectory
) -> None:
    tensors = pipeline.tensors
    painted = decode(refiner.vae, trajectory[-1], refiner.config.tile)
    close(painted, tensors["decoded01"])
    fixed = colour.wavelet(painted, tensors["img_init"])
    close(fixed, tensors["out_wavelet"])
    close(colour.adain(painted, tensors["img_init"]), tensors["out_adain"])
    levels = (fixed.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).int()
    differences = (levels - tensors["out_u8"].int()).abs()
    # A value within 1e-5 of a level may be truncated to either side of it.
    assert differences.max() <= 1
    assert (differences > 0).float().mean() < 1e-3


def test_the_captioner_sees_the_recorded_pixels(pipeline: Pipeline) -> None:
    images = pipeline.tensors["img_init"]
    seen = (images.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1)
    torch.testing.assert_close(seen, pipeline.tensors["img_init_u8_to_blip"], rtol=0, atol=0)


def test_colour_fixes_are_the_recorded_ones() -> None:
    recorded = recorded_tensors("colorfix")
    content, style = recorded["content"], recorded["style"]
    close(colour.blur(content, 1), recorded["content_blur_r1"])
    close(colour.blur(content, 16), recorded["content_blur_r16"])
    close(colour.low_frequencies(content), recorded["content_low"])
    close(content - colour.low_frequencies(content), recorded["content_high"])
    close(colour.wavelet(content, style), recorded["wavelet"])
    close(colour.adain(content, style), recorded["adain"])

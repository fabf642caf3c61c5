"""Distillation: few steps without guidance come to where the teacher's many steps do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from diffjscc.channels import AWGN
from diffjscc.cli import app
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.pretrained.pretrained import save_codec
from diffjscc.pretrained.receiver import save_refiner
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.sampling import (
    SamplerConfig,
    paper_scheduler,
    sample,
    signal_powers,
    steps_from,
)
from diffjscc.schemes.loader import load_scheme
from diffjscc.schemes.options import RefinerOptions
from diffjscc.training.config import load_config
from diffjscc.training.distillation import FewSteps, train
from diffjscc.training.distillation_config import DistillationConfig
from toy_refiner import make_control, make_unet, make_vae

CODEC = {"class": "CompactJSCC", "widths": [16, 24], "encoder_blocks": [1, 1]}
CODEC |= {"decoder_blocks": [1, 1], "rate_channels": [4, 8]}
TEACHER = SamplerConfig("ddim", 4, "initial", ((0.01, 0.9), (0.1, 0.5)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and a teacher."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.uint8)
        image = Image.fromarray(corners).resize((90, 70), Image.Resampling.BILINEAR)
        image.save(folder / "images" / f"{number}.png")
    save_scheme(folder / "teacher", TEACHER)
    return folder


def save_scheme(folder: Path, sampler: SamplerConfig) -> None:
    torch.manual_seed(0)
    unet = make_unet()
    config = DiffusionConfig(
        sampler, colour_fix="none", control_guidance_scale=2.0, decode_noise=((1.0, 0.3),)
    )
    save_codec(build_codec(CODEC), folder)
    save_refiner(ControlledDiffusion(make_vae(), unet, make_control(unet), config=config), folder)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def toy(world: Path, folder: Path, **changed: object) -> Path:
    """A config file."""
    config: dict[str, object] = {
        "weights": str(world / "teacher"),
        "data": {"train": str(world / "images"), "crop": 64},
        "channel": {"snr_db": [0, 12]},
        "sampled": {"folder": str(folder / "pairs"), "images": 6},
        "optimiser": {"learning_rate": 1e-2, "schedule": "linear-tail", "clip": 1.0},
        "run": {"iterations": 40, "batch": 6, "checkpoint_every": 9, "log_every": 10, "ema": 0.8},
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config | changed))
    return path


@pytest.mark.parametrize("few", [1, 2, 3])
def test_training_samples_as_the_receiver_does(few: int) -> None:
    """For a prior whose noise depends on z and t, at every number of skipped steps."""
    config, scheduler = SamplerConfig("ddim", 8, "initial", distilled_steps=few), paper_scheduler()
    draws = torch.Generator().manual_seed(0)
    initial, noise = torch.randn(2, 1, 4, 3, 3, generator=draws)

    class Prior(torch.nn.Module):
        def forward(self, z: torch.Tensor, t: torch.Tensor, *_: object, **__: bool) -> torch.Tensor:
            return torch.sin(z + t[:, None, None, None] / 300)

    prior = Prior()
    for begin in range(8):
        expected = sample(
            lambda z, t: prior(z, torch.tensor([t])),
            scheduler,
            config,
            lambda: noise,
            initial=initial,
            begin=begin,
        )
        steps = steps_from(config, scheduler, begin)
        assert len(steps) == few
        assert sorted(steps, reverse=True) == steps
        assert steps[-1] >= 0
        student = FewSteps(prior, signal_powers(scheduler))
        snr_db = torch.zeros(1)
        sampled = student(initial, noise, torch.tensor([steps]), snr_db, None)
        torch.testing.assert_close(sampled, expected)


def test_a_distilled_receiver_comes_to_its_teacher_s_latents(world: Path, tmp_path: Path) -> None:
    weights = train(load_config(DistillationConfig, str(toy(world, tmp_path))), tmp_path / "run")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    losses = [float(yaml.safe_load(line)["loss"]) for line in lines]
    assert losses[-1] < 0.7 * losses[0]

    student = DiffJSCC.from_pretrained(str(weights))
    assert isinstance(student.refiner, ControlledDiffusion)
    assert student.refiner.config.sampler.distilled_steps == 1
    calls = []
    student.refiner.progress = lambda done, total: calls.append((done, total))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    result = student(image, AWGN(1.0), generator=torch.Generator().manual_seed(0))
    assert calls == [(1, 1)]
    assert result.image.shape == image.shape
    for part in ("unet", "vae", "control"):  # to the bit
        before, after = tensors(world / "teacher" / part), tensors(weights / part)
        for name, value in before.items():
            assert torch.equal(value, after[name].to(value.dtype)), name


def test_an_interrupted_distillation_goes_on_as_if_it_were_not(world: Path, tmp_path: Path) -> None:
    path = str(toy(world, tmp_path))
    whole = train(load_config(DistillationConfig, path, ["run.iterations=6"]), tmp_path / "whole")
    train(load_config(DistillationConfig, path, ["run.iterations=3"]), tmp_path / "parts")
    parts = train(load_config(DistillationConfig, path, ["run.iterations=6"]), tmp_path / "parts")
    again = tensors(parts / "distilled")
    for name, value in tensors(whole / "distilled").items():
        torch.testing.assert_close(value, again[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (SamplerConfig("ddpm", 4, "initial"), "ddim"),
        (SamplerConfig("ddim", 4, "noise"), "initial"),
        (SamplerConfig("ddim", 4, "initial", distilled_steps=1), "correct one of both"),
    ],
)
def test_teachers_that_cannot_be_distilled_are_named(
    world: Path, tmp_path: Path, sampler: SamplerConfig, words: str
) -> None:
    save_scheme(tmp_path / "other", sampler)
    path = toy(world, tmp_path, weights=str(tmp_path / "other"))
    run = ["train", "distillation", "--config", str(path), "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(app, run)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    "settings", [{"distilled_steps": 0}, {"distilled_steps": 9}, {"name": "unipc"}]
)
def test_impossible_numbers_of_distilled_steps_are_refused(settings: dict[str, object]) -> None:
    given = {"name": "ddim", "num_inference_steps": 8, "distilled_steps": 1} | settings
    with pytest.raises(ValueError, match="distilled_steps"):
        SamplerConfig(**given)  # type: ignore[arg-type]


def test_the_number_of_steps_chooses_the_control_module(world: Path, tmp_path: Path) -> None:
    """So many as it was distilled to, or any others with guidance; also after saving."""
    path = str(toy(world, tmp_path))
    run = load_config(DistillationConfig, path, ["run.iterations=3", "steps=2"])
    weights = train(run, tmp_path / "run")
    student = DiffJSCC.from_pretrained(str(weights))
    student.save_pretrained(tmp_path / "again")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    def sent(source: Path, steps: int | None) -> tuple[torch.Tensor, int]:
        options = RefinerOptions(num_inference_steps=steps)
        scheme = load_scheme(source, None, "diffusion", options)
        assert isinstance(scheme.refiner, ControlledDiffusion)
        draws = torch.Generator().manual_seed(0)
        return scheme(image, AWGN(1.0), generator=draws).image, scheme.refiner.num_inference_steps

    again = load_config(DistillationConfig, path, [f"weights={weights}"])
    with pytest.raises(ValueError, match="is distilled already"):
        train(again, tmp_path / "twice")
    few, steps = sent(weights, None)
    assert steps == 2
    for source in (weights, tmp_path / "again"):
        assert torch.equal(sent(source, 2)[0], few)
    teacher, steps = sent(weights, 4)
    assert steps == 4
    assert torch.equal(teacher, sent(world / "teacher", 4)[0])
    assert not torch.equal(teacher, few)


@pytest.mark.parametrize(
    ("options", "few", "steps"),
    [
        (RefinerOptions(), 1, 8),
        (RefinerOptions(num_inference_steps=1), 1, 8),
        (RefinerOptions(num_inference_steps=1, sampler="ddim", start="initial"), 1, 8),
        (RefinerOptions(num_inference_steps=1, sampler="ddpm"), None, 1),
        (RefinerOptions(num_inference_steps=1, start="noise"), None, 1),
        (RefinerOptions(num_inference_steps=5), None, 5),
        (RefinerOptions(sampler="unipc"), None, 8),
        (RefinerOptions(start="noise"), None, 8),
        (RefinerOptions(full_strength=True), 1, 8),
    ],
)
def test_other_samplers_and_starts_take_the_guided_module(
    options: RefinerOptions, few: int | None, steps: int
) -> None:
    own = DiffusionConfig(sampler=SamplerConfig("ddim", 8, "initial", distilled_steps=1))
    sampler = options.config(own, distilled_steps=1).sampler
    assert (sampler.distilled_steps, sampler.num_inference_steps) == (few, steps)


def test_steps_that_nothing_was_distilled_to_are_refused(world: Path) -> None:
    teacher = DiffJSCC.from_pretrained(str(world / "teacher"))
    assert isinstance(teacher.refiner, ControlledDiffusion)
    sampler = replace(TEACHER, distilled_steps=1)
    teacher.refiner.config = replace(teacher.refiner.config, sampler=sampler)
    with pytest.raises(ValueError, match="distilled control modules there is none"):
        teacher(torch.rand(1, 3, 64, 64), AWGN(1.0))

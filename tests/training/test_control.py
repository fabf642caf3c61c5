"""Control training: only the control module learns, exactly resumable, from latents that fit."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL, DDPMScheduler, PNDMScheduler, UNet2DConditionModel
from huggingface_hub.errors import HTTPError
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from diffjscc.channels import AWGN
from diffjscc.cli import app
from diffjscc.data.sources import open_source
from diffjscc.evaluation.results import read_results
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.pretrained.pretrained import load_codec, save_codec
from diffjscc.pretrained.storage import WeightsError
from diffjscc.refiners.captions import FixedCaption
from diffjscc.refiners.control import Denoiser
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.latents import encode
from diffjscc.refiners.sampling import paper_scheduler, signal_powers
from diffjscc.refiners.vae import CompactVAE
from diffjscc.scheme import Scheme
from diffjscc.training.config import load_config, shipped_configs
from diffjscc.training.control import train
from diffjscc.training.control_config import ControlConfig
from diffjscc.training.control_latents import ControlBatches, latent_settings
from diffjscc.training.frozen import load_prior, load_vae
from diffjscc.training.latent_writing import fitted
from diffjscc.training.latents import LatentFolder, part_path, write_part
from diffjscc.training.noise import NoiseError, step_weights
from diffjscc.training.precompute import Precomputation, precompute
from processes import run
from toy_refiner import make_control, make_text_encoder, make_tokenizer, make_unet, make_vae

CODEC = {"class": "CompactJSCC", "widths": [16, 24], "encoder_blocks": [1, 1]}
CODEC |= {"decoder_blocks": [1, 1], "rate_channels": [4, 8]}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the processes that are started: how sums are split up decides how they are rounded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS is not to be fetched, nor read by other processes."""
    monkeypatch.setenv("DIFFJSCC_METRIC_WEIGHTS", "")
    monkeypatch.setattr("diffjscc.training.validation.LPIPS.load", _no_weights)


def _no_weights(_: str) -> None:
    from diffjscc.metrics.weights import MetricUnavailable  # noqa: PLC0415

    raise MetricUnavailable("not in the tests")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a codec and two priors, the second of which reads text."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.uint8)
        image = Image.fromarray(corners).resize((49, 40), Image.Resampling.BILINEAR)
        image.save(folder / "images" / f"{number}.png")
        (folder / "images" / f"{number}.txt").write_text("cat" if number % 2 else "a b")
    torch.manual_seed(0)
    save_codec(build_codec(CODEC), folder / "weights")
    for name, text in (("prior", False), ("text-prior", True)):
        make_unet(text).save_pretrained(folder / name / "unet")
        make_vae().save_pretrained(folder / name / "vae")
        stable_diffusion_scheduler().save_pretrained(folder / name / "scheduler")
    make_text_encoder().save_pretrained(folder / "text-prior" / "text_encoder")
    make_tokenizer().save_pretrained(folder / "text-prior" / "tokenizer")
    return folder


def stable_diffusion_scheduler() -> PNDMScheduler:
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.0120,
        beta_schedule="scaled_linear",
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    )


def toy(world: Path, folder: Path, **run: object) -> Path:
    """A config file."""
    config: dict[str, object] = {
        "prior": str(world / "prior"),
        "codec": str(world / "weights"),
        "data": {"train": str(world / "images"), "crop": 32},
        "channel": {"snr_db": [0, 12]},
        "precompute": {"folder": str(folder / "latents"), "bins": 3},
        "optimiser": {"learning_rate": 2e-3, "schedule": "linear-tail"},
        "sampler": {"num_inference_steps": 2},
        "run": {"iterations": 6, "batch": 4, "checkpoint_every": 2, "log_every": 2, "ema": 0.9}
        | {"validate_every": 6}
        | run,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def ready(path: Path, *overrides: str) -> ControlConfig:
    """The config, its latents precomputed."""
    config = load_config(ControlConfig, str(path), overrides)
    precompute(config)
    return config


def control_of(output: Path) -> dict[str, torch.Tensor]:
    files = sorted((output / "weights" / "control").glob("*.safetensors"))
    return {key: value for file in files for key, value in load_file(file).items()}


def losses(output: Path) -> list[float]:
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_latents_are_those_of_what_the_link_delivers(world: Path, tmp_path: Path) -> None:
    config = ready(toy(world, tmp_path))
    codec, vae = load_codec(config.codec), load_vae(config.prior)
    source = open_source(config.data.train)
    stored = load_file(part_path(config.precompute.folder, 0))
    snrs = torch.stack([stored[f"snr_db.{n}"] for n in range(6)])
    assert bool(((snrs >= torch.tensor([0, 4, 8])) & (snrs < torch.tensor([4, 8, 12]))).all())
    assert set(torch.cat([stored[f"rates.{n}"] for n in range(6)]).tolist()) == {0, 1}
    image = fitted(source[4], 32, None, 2)
    assert image.shape == (1, 3, 40, 48)
    torch.testing.assert_close(
        stored["original.4"][0].float(), encode(vae, image, 128).mean[0], atol=1e-3, rtol=1e-3
    )
    _, rates, seeds = Precomputation(config, codec, vae, None).conditions(4)
    for n in range(3):
        noise = torch.Generator().manual_seed(seeds[n])
        initial = Scheme(codec, rates[n])(image, AWGN(snrs[4, n].item()), noise).image
        expected = encode(vae, initial, 128).mean[0]
        torch.testing.assert_close(stored["initial.4"][n].float(), expected, atol=2e-3, rtol=2e-3)
        assert stored["rates.4"][n] == codec.rate_index(rates[n])


def test_precomputing_goes_on_where_it_was_killed(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("latent_writing", "latents"):
        monkeypatch.setattr(f"diffjscc.training.{module}.PART", 2)
    config = ready(toy(world, tmp_path))
    whole = files_of(config.precompute.folder)
    assert len(whole) == 4
    times = part_path(config.precompute.folder, 0).stat().st_mtime_ns
    part_path(config.precompute.folder, 1).unlink()
    with pytest.raises(ValueError, match=r"1 of the 3 parts of .* are missing"):
        train(config, tmp_path / "run")
    precompute(config)
    assert files_of(config.precompute.folder) == whole
    assert part_path(config.precompute.folder, 0).stat().st_mtime_ns == times
    elsewhere = config.model_copy(
        update={"precompute": config.precompute.model_copy(update={"folder": tmp_path / "two"})}
    )
    precompute(elsewhere)
    assert files_of(tmp_path / "two") == whole


def test_latents_of_other_settings_are_refused(world: Path, tmp_path: Path) -> None:
    path = toy(world, tmp_path)
    config = ready(path)
    torch.manual_seed(1)
    save_codec(build_codec(CODEC), tmp_path / "other")
    for override, message in (
        (f"codec={tmp_path / 'other'}", r"codec: \w+ there, \w+ here"),
        (f"prior={world / 'text-prior'}", r"vae: \w+ there, \w+ here"),
        ("precompute.bins=4", "bins: 3 there, 4 here"),
        ("precompute.rates=[1/128]", "rates: .*1/64.* there, .'1/128'. here"),
        ("channel.name=rayleigh", "channel: .*awgn.* there, .*rayleigh.* here"),
        ("run.seed=5", "seed: 0 there, 5 here"),
    ):
        other = load_config(ControlConfig, str(path), [override])
        with pytest.raises(ValueError, match=message):
            train(other, tmp_path / "run")
        with pytest.raises(ValueError, match=message):
            precompute(other)
    nothing = load_config(ControlConfig, str(path), ["precompute.folder=/nonexistent/latents"])
    with pytest.raises(ValueError, match="holds no latents; run `diffjscc precompute`"):
        train(nothing, tmp_path / "run")
    damaged = part_path(config.precompute.folder, 0)
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"part-00000.safetensors is damaged .*; remove it"):
        train(config, tmp_path / "run")
    write_part(damaged, [])
    with pytest.raises(ValueError, match="none of the images"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("precompute.captions=source", "has no text encoder; set it to none"),
        ("precompute.rates=[1/100]", "rate 1/100 is not one of 1/128, 1/64"),
        ("prior=/nonexistent", "scheduler of prior '/nonexistent' could not be loaded"),
        ("codec=nothing", "neither bundled"),
        (
            "prior={world}/text-prior precompute.captions=blip2 precompute.blip2=/nonexistent",
            "captioner '/nonexistent' could not be loaded",
        ),
    ],
)
def test_wrong_settings_of_precompute_are_named(
    world: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ready(toy(world, tmp_path), *override.format(world=world).split())


def test_a_prior_of_which_the_hub_has_only_a_part_in_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise HTTPError("network unreachable")

    monkeypatch.setattr(AutoencoderKL, "load_config", offline)
    with pytest.raises(ValueError, match="the vae of prior 'a/b' could not be loaded: network un"):
        load_vae("a/b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.crop=30", "data.crop is 30; this prior needs a multiple of 4"),
        ("memory.accumulate=3", "1 processes with memory.accumulate=3 need a multiple of 3"),
    ],
)
def test_wrong_settings_of_training_are_named(
    world: Path, tmp_path: Path, override: str, message: str
) -> None:
    config = load_config(ControlConfig, str(toy(world, tmp_path)), [override])
    with pytest.raises(ValueError, match=message):
        train(config, tmp_path / "run")


def test_captions_come_from_the_source_or_the_captioner(world: Path, tmp_path: Path) -> None:
    config = ready(
        toy(world, tmp_path),
        f"prior={world / 'text-prior'}",
        "precompute.captions=source",
        "text_dropout=0.5",
    )
    codec, vae = load_codec(config.codec), load_vae(config.prior)
    source = open_source(config.data.train)
    latents = LatentFolder(config.precompute.folder, latent_settings(config, source, codec, vae))
    assert [latents.caption(n, 1) for n in range(3)] == ["a b", "cat", "a b"]
    batches = ControlBatches(latents, config, 16, 1000)
    captions = [text for step in range(50) for text in batches.batch_at(step).captions]
    assert captions.count("") / 200 == pytest.approx(0.5, abs=0.12)
    described = Precomputation(config, codec, vae, FixedCaption("a cat"))(source[0], 0, "else")
    assert described.captions == ["a cat"] * 3


def test_small_and_large_images_are_fitted() -> None:
    pixels = np.zeros((100, 210, 3), np.uint8)
    assert fitted(pixels, 32, None, 8).shape == (1, 3, 96, 208)
    assert fitted(pixels, 32, 50, 8).shape == (1, 3, 48, 104)
    assert fitted(pixels, 200, 50, 8).shape == (1, 3, 200, 416)


def test_a_batch_is_a_function_of_its_number(world: Path, tmp_path: Path) -> None:
    config = ready(toy(world, tmp_path))
    source, codec = open_source(config.data.train), load_codec(config.codec)
    latents = LatentFolder(
        config.precompute.folder, latent_settings(config, source, codec, load_vae(config.prior))
    )
    batches = ControlBatches(latents, config, 16, 1000)
    whole, again = batches.batch_at(7), ControlBatches(latents, config, 16, 1000).batch_at(7)
    halves = [batches.batch_at(7, n, 2) for n in range(2)]
    for name in ("clean", "noise", "t", "condition", "snr_db"):
        assert torch.equal(getattr(whole, name), getattr(again, name))
        assert torch.equal(getattr(whole, name), torch.cat([getattr(h, name) for h in halves]))
    assert torch.equal(whole.part(1, 2).noise, halves[1].noise)
    many = [batches.batch_at(step) for step in range(250)]
    t = torch.cat([batch.t for batch in many])
    assert 0 <= t.min() < 10
    assert 990 <= t.max() < 1000
    assert t.float().mean() == pytest.approx(499.5, abs=40)
    noise = torch.cat([batch.noise for batch in many])
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    order = [batches.order(step, place) for step in range(3) for place in range(4)]
    assert sorted(order[:6]) == sorted(order[6:]) == list(range(6))


def test_only_the_control_module_has_gradients() -> None:
    torch.manual_seed(0)
    unet = make_unet()
    unet.requires_grad_(False)
    powers = signal_powers(paper_scheduler())
    error = NoiseError(Denoiser(unet, make_control(unet)), powers)
    z = torch.randn(2, 4, 8, 8)
    t, snr_db = torch.tensor([10, 900]), torch.tensor([1.0, 9.0])
    error(z, torch.randn_like(z), t, z, snr_db, torch.zeros(2, 1, 8)).sum().backward()
    assert all(p.grad is None for p in unet.parameters())
    unmoved = [
        name
        for name, p in error.denoiser.control.named_parameters()
        if p.grad is None or not bool(p.grad.abs().sum() > 0)
    ]
    assert unmoved == []


def test_the_loss_is_the_error_of_the_noise_in_z_t() -> None:
    """A prior that gives z_t back is wrong by z_t - noise."""

    class Echo(nn.Module):
        def forward(self, z_t: torch.Tensor, *_: object) -> torch.Tensor:
            return z_t

    powers = signal_powers(paper_scheduler())
    z, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    t = torch.tensor([0, 999])
    error = NoiseError(Echo(), powers)(z, noise, t, z, torch.zeros(2), None)  # type: ignore[arg-type]
    for n in range(2):
        power = powers[t[n]].item()
        z_t = power**0.5 * z[n] + (1 - power) ** 0.5 * noise[n]
        assert error[n].item() == pytest.approx((z_t - noise[n]).square().mean().item(), rel=1e-4)
    weights = step_weights(powers, 5.0)
    assert weights[999] == 1
    assert weights[0].item() == pytest.approx(5 * (1 - powers[0].item()) / powers[0].item())
    assert bool((step_weights(powers, None) == 1).all())


def test_a_run_learns_and_leaves_a_whole_scheme(world: Path, tmp_path: Path) -> None:
    path = toy(world, tmp_path, iterations=80, log_every=10, validate_every=80)
    config = ready(path, f"data.validation={world / 'images'}", "data.validation_images=2")
    weights = train(config, tmp_path / "run")
    values = losses(tmp_path / "run")
    assert np.mean(values[-3:]) < 0.9 * values[0]
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert {"psnr/initial", "psnr/final"} <= last.keys()
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    scheme = DiffJSCC.from_pretrained(weights, "1/64")
    assert scheme.refiner is not None
    prior = load_prior(config.prior)
    for ours, before in (
        (scheme.refiner.vae, prior.vae),
        (scheme.refiner.denoiser.unet, prior.unet),
    ):
        for name, value in before.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), name
    for name, value in load_codec(config.codec).state_dict().items():
        assert torch.equal(scheme.codec.state_dict()[name], value), name
    assert scheme.refiner.config.sampler.num_inference_steps == 2
    assert scheme.refiner.snr_range_db == (0, 12)
    original = fitted(open_source(config.data.train)[0], 32, None, 2)
    image = scheme(original, AWGN(3.0), torch.Generator().manual_seed(0)).image
    assert image.shape == original.shape


def test_a_prior_that_predicts_velocity_is_refused_before_any_work(
    world: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "velocity" / "scheduler"
    DDPMScheduler(prediction_type="v_prediction").save_pretrained(folder)
    # It has no networks: nothing else is looked for.
    overrides = [f"prior={folder.parent}"]
    config = load_config(ControlConfig, str(toy(world, tmp_path)), overrides)
    with pytest.raises(WeightsError, match=r"'v_prediction'.*2\.1-base, which predicts noise"):
        precompute(config)
    with pytest.raises(WeightsError, match=r"'v_prediction'.*2\.1-base, which predicts noise"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "latents").exists()


def test_an_interrupted_run_resumes_bit_for_bit(
    world: Path, tmp_path: Path, interrupted: Callable[[int], AbstractContextManager[None]]
) -> None:
    config = ready(toy(world, tmp_path))
    with interrupted(3):
        train(config, tmp_path / "killed")
    assert not (tmp_path / "killed" / "weights").exists()
    assert torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["step"] == 2
    train(config, tmp_path / "killed")
    train(config, tmp_path / "whole")
    whole, resumed = control_of(tmp_path / "whole"), control_of(tmp_path / "killed")
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
    logs = [(tmp_path / n / "log.jsonl").read_text() for n in ("whole", "killed")]
    assert logs[0] == logs[1]


@pytest.mark.usefixtures("on_cpu")
def test_parts_processes_and_checkpointing_change_nothing_but_rounding(
    world: Path, tmp_path: Path
) -> None:
    path = toy(world, tmp_path)
    config = ready(path)
    train(config, tmp_path / "one")
    for name, override in (
        ("parts", "memory.accumulate=2"),
        ("checkpointing", "memory.gradient_checkpointing=true"),
    ):
        train(load_config(ControlConfig, str(path), [override]), tmp_path / name)
    whole = files_of(config.precompute.folder)
    for file in config.precompute.folder.iterdir():
        file.unlink()
    said = tmp_path / "said"
    run("precompute", "--config", path, processes=2, said=said)
    assert files_of(config.precompute.folder) == whole
    parts = "memory.accumulate=2"
    words = ("train", "control", parts, "--config", path, "-o", tmp_path / "processes")
    run(*words, processes=2, said=said)
    one = control_of(tmp_path / "one")
    for name in ("parts", "checkpointing", "processes"):
        for key, value in control_of(tmp_path / name).items():
            torch.testing.assert_close(value, one[key], atol=2e-4, rtol=1e-2)


def test_init_takes_an_earlier_control_module(world: Path, tmp_path: Path) -> None:
    path = toy(world, tmp_path, iterations=3)
    config = ready(path)
    first = train(config, tmp_path / "first")
    still = load_config(ControlConfig, str(path), ["optimiser.learning_rate=1e-12"])
    train(still, tmp_path / "second", init=str(first))
    second = control_of(tmp_path / "second")
    for name, value in control_of(tmp_path / "first").items():
        torch.testing.assert_close(second[name], value)
    rescaled = load_config(ControlConfig, str(path), ["snr_scale=1"])
    with pytest.raises(ValueError, match=r"snr_scale 100.0, the config 1.0; set snr_scale=100.0"):
        train(rescaled, tmp_path / "third", init=str(first))


def test_a_control_module_without_the_snr_serves_fig6(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toy(world, tmp_path)
    weights = {}
    for embedded in (True, False):
        config = ready(path, f"snr_embedding={embedded}")
        weights[embedded] = train(config, tmp_path / f"{embedded}")
        refiner = DiffJSCC.from_pretrained(weights[embedded]).refiner
        assert isinstance(refiner, ControlledDiffusion)
        generator = torch.Generator().manual_seed(0)
        z, condition = torch.randn(2, 1, 4, 8, 8, generator=generator)
        with torch.no_grad():
            low, high, blind = (
                refiner.denoiser(
                    z, torch.tensor([500]), condition, torch.tensor([snr_db]), None, control_scale=s
                )
                for snr_db, s in ((0.0, 1.0), (12.0, 1.0), (0.0, 0.0))
            )
        assert not torch.equal(low, blind)  # it does steer
        assert torch.equal(low, high) != embedded
    lesser = load_config(ControlConfig, str(path), ["snr_embedding=false"])
    with pytest.raises(ValueError, match=r"control module .* snr_embedding True, the config False"):
        train(lesser, tmp_path / "other", init=str(weights[True]))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    # Of smaller images: what the receivers differ in shows in any.
    monkeypatch.setattr("diffjscc.evaluation.experiments.QUICK_CROP", 64)
    words = ["reproduce", "fig6", "--quick", "--weights", str(weights[True])]
    words += ["--spatial", str(weights[False]), "-o", "out"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "--spatial" not in done.output  # it is not asked for
    by_scheme = {
        name: [
            row.metrics["psnr"]
            for row in read_results(tmp_path / "out" / "fig6").records
            if row.scheme == name
        ]
        for name in ("spatial", "spatial + SNR")
    }
    assert len(by_scheme["spatial"]) == len(by_scheme["spatial + SNR"]) == 2
    assert by_scheme["spatial"] != by_scheme["spatial + SNR"]


def test_a_prior_that_reads_text_is_trained_with_it(world: Path, tmp_path: Path) -> None:
    config = ready(
        toy(world, tmp_path, iterations=2),
        f"prior={world / 'text-prior'}",
        "precompute.captions=source",
        "run.precision=bf16",
    )
    weights = train(config, tmp_path / "run")
    scheme = DiffJSCC.from_pretrained(weights)
    assert scheme.refiner is not None
    assert scheme.refiner.text is not None
    assert scheme.refiner.text.tokens(["cat"])[0, 1] != 49407


@pytest.mark.parametrize("name", shipped_configs(ControlConfig))
def test_shipped_configs_are_valid(name: str) -> None:
    batches = {"compact-control": 256, "paper-control": 16}
    assert load_config(ControlConfig, name).run.batch == batches[name]


def test_the_paper_s_recipe() -> None:
    config = load_config(ControlConfig, "paper-control")
    assert (config.run.iterations, config.run.batch, config.data.crop) == (25_000, 16, 512)
    assert (config.optimiser.learning_rate, config.min_snr_gamma) == (1e-4, None)
    assert (config.channel.snr_db, config.precompute.captions) == ((0.0, 14.0), "blip2")
    assert (config.sampler.name, config.sampler.num_inference_steps) == ("ddpm", 100)


def test_priors_are_read_as_diffusers_has_them(world: Path) -> None:
    """Stable Diffusion's folder names another sampler's class, with settings of its own."""
    prior = load_prior(str(world / "text-prior"))
    assert isinstance(prior.vae, AutoencoderKL)
    assert isinstance(prior.unet, UNet2DConditionModel)
    assert prior.text is not None
    assert prior.scheduler.to_json_string() == paper_scheduler().to_json_string()


def test_the_compact_vae_is_read_too(world: Path, tmp_path: Path) -> None:
    CompactVAE(latent_channels=4, widths=(8, 8)).save_pretrained(tmp_path / "vae")
    vae = load_vae(str(tmp_path))
    assert isinstance(vae, CompactVAE)
    config = load_config(
        ControlConfig, str(toy(world, tmp_path)), [f"prior={tmp_path}", "data.crop=64"]
    )
    source = open_source(config.data.train)
    kept = Precomputation(config, load_codec(config.codec), vae, None)(source[0], 0, None)
    assert kept.original.shape == (2, 4, 4, 4)
    assert kept.initial.shape == (3, 4, 4, 4)

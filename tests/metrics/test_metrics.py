"""PSNR, MS-SSIM and LPIPS against recorded and published numbers."""

import hashlib
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffjscc.choices import LPIPSNet
from diffjscc.data.files import sha256_of
from diffjscc.metrics.fidelity import ms_ssim, psnr, tiled_mean
from diffjscc.metrics.lpips import BACKBONES, LPIPS
from diffjscc.metrics.weights import (
    FOLDER_VARIABLE,
    PACKAGED,
    MetricUnavailable,
    WeightFile,
    find_weights,
    read_state,
)
from locations import PARITY, PHOTOGRAPHS, PORTRAIT
from recordings import recorded_numbers, recorded_tensors

SQUEEZE_FILES = ("squeezenet1_1_features_torchvision.pth", "lpips_v0.1_squeeze.pth")


def image(path: Path) -> Tensor:
    pixels = np.array(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


def coarse(images: Tensor) -> Tensor:
    """Eight levels a channel."""
    return torch.div((255 * images).round(), 32, rounding_mode="floor") * 32 / 255


@pytest.fixture(scope="module")
def recorded() -> tuple[Tensor, Tensor, dict[str, list[float]]]:
    tensors = recorded_tensors("metrics")
    numbers = recorded_numbers("metrics")
    return tensors["a_u8"] / 255, tensors["b_u8"] / 255, numbers


@pytest.fixture(scope="module")
def squeeze() -> LPIPS:
    return LPIPS.load("squeeze")


@pytest.fixture(scope="module")
def large() -> tuple[Tensor, Tensor]:
    """A 1500x1200 mosaic of photographs, and the same with eight levels a channel."""
    places = PHOTOGRAPHS / "astronaut.webp", PHOTOGRAPHS / "coffee.webp", PORTRAIT
    row = torch.cat([image(place)[..., -400:, :500] for place in places], dim=3)
    images = torch.cat((row, row.flip(-1), row.flip(-2)), dim=2)
    return images, coarse(images)


def test_psnr_gives_the_recorded_numbers(
    recorded: tuple[Tensor, Tensor, dict[str, list[float]]],
) -> None:
    a, b, numbers = recorded
    assert psnr(a, b).tolist() == pytest.approx(numbers["psnr"], abs=1e-4)
    assert psnr(a, a).tolist() == numbers["psnr_identical"]


def test_psnr_of_a_known_error() -> None:
    references = torch.full((2, 3, 5, 7), 0.5)
    images = references + torch.tensor([0.1, 0.01])[:, None, None, None]
    assert psnr(images, references).tolist() == pytest.approx([20, 40], abs=1e-3)


def test_ms_ssim_gives_the_recorded_numbers(
    recorded: tuple[Tensor, Tensor, dict[str, list[float]]],
) -> None:
    a, b, numbers = recorded
    assert ms_ssim(a, b).tolist() == pytest.approx(numbers["ms_ssim"], abs=1e-5)
    assert ms_ssim(a, a).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("name", "size", "mirrored", "levels"),
    [  # by pytorch-msssim 1.0.0; odd sides and bad images are where conventions part
        ("astronaut", (511, 509), 0.1061778, 0.9502600),
        ("chelsea", (161, 163), 0.2444098, 0.9441912),
        ("coffee", (400, 600), 0.2705590, 0.9256883),
    ],
)
def test_ms_ssim_of_photographs(
    name: str, size: tuple[int, int], mirrored: float, levels: float
) -> None:
    images = image(PHOTOGRAPHS / f"{name}.webp")[..., : size[0], : size[1]]
    assert ms_ssim(images.flip(-1), images).item() == pytest.approx(mirrored, abs=1e-5)
    assert ms_ssim(coarse(images), images).item() == pytest.approx(levels, abs=1e-5)


def test_ms_ssim_of_a_negative_is_zero_not_nan() -> None:
    images = image(PHOTOGRAPHS / "coffee.webp")
    assert ms_ssim(1 - images, images).item() == 0


def test_ms_ssim_is_undefined_for_small_images() -> None:
    small = torch.rand(2, 3, 160, 400)
    assert ms_ssim(small, small).isnan().tolist() == [True, True]
    least = torch.rand(2, 3, 161, 400)
    assert ms_ssim(least, least).tolist() == pytest.approx([1, 1])


def test_tiles_are_large_cover_the_image_once_and_count_by_area() -> None:
    images = torch.rand(2, 3, 513, 1100)
    sizes: list[tuple[int, int]] = []

    def mean(x: Tensor, y: Tensor) -> Tensor:
        sizes.append((x.shape[-2], x.shape[-1]))
        return (x - y).mean(dim=(1, 2, 3))

    result = tiled_mean(mean, images, torch.zeros_like(images), 512)
    torch.testing.assert_close(result, images.mean(dim=(1, 2, 3)))
    assert len(sizes) == 6
    assert min(min(size) for size in sizes) >= 256
    assert max(max(size) for size in sizes) <= 512
    with pytest.raises(ValueError, match="tile is 511 px"):
        tiled_mean(mean, images, images, 511)


def test_tiled_ms_ssim_is_that_of_the_whole(large: tuple[Tensor, Tensor]) -> None:
    images, bad = large
    whole = ms_ssim(bad, images).item()
    assert 0.9 < whole < 0.97
    assert ms_ssim(bad, images, tile=512).item() == pytest.approx(whole, abs=1e-5)


def test_tiled_lpips_is_that_of_the_whole(large: tuple[Tensor, Tensor], squeeze: LPIPS) -> None:
    images, bad = large
    whole = squeeze(bad, images).item()
    assert 0.03 < whole < 0.3
    assert squeeze(bad, images, tile=512).item() == pytest.approx(whole, abs=1e-5)


def test_tiles_see_as_far_as_the_features_of_another_net() -> None:
    torch.manual_seed(0)
    model = LPIPS("alex")
    for head in model.heads:
        head.weight.abs_()
    # Sides that are no multiples of the strides, one of them a little longer than a tile.
    images, bad = torch.rand(2, 1, 3, 1035, 265)
    whole, tiled = model(bad, images), model(bad, images, tile=512)
    assert tiled.item() == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("tile", [512, 2048])
def test_levels_are_measured_as_their_floats(squeeze: LPIPS, tile: int) -> None:
    images, bad = torch.randint(0, 256, (2, 2, 3, 520, 540), dtype=torch.uint8)
    floats = bad / 255, images / 255
    assert torch.equal(psnr(bad, images), psnr(*floats))
    assert torch.equal(ms_ssim(bad, images, tile), ms_ssim(*floats, tile))
    assert torch.equal(squeeze(bad, images, tile), squeeze(*floats, tile))


def test_lpips_gives_the_published_example(squeeze: LPIPS) -> None:
    folder = PARITY / "lpips-example"
    reference, p0, p1 = (image(folder / f"ex_{name}.png") for name in ("ref", "p0", "p1"))
    distances = squeeze(torch.cat((p0, p1, reference)), reference.expand(3, -1, -1, -1))
    assert distances.tolist() == pytest.approx([0.711, 0.148, 0], abs=1e-3)


def test_lpips_is_a_loss_with_finite_gradients(squeeze: LPIPS) -> None:
    images = torch.zeros(1, 3, 64, 64, requires_grad=True)
    distance = squeeze.distance(images, torch.rand(1, 3, 64, 64))
    (gradient,) = torch.autograd.grad(distance, images)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    assert not any(weight.requires_grad for weight in squeeze.parameters())


@pytest.mark.parametrize(
    ("net", "parameters"), [("squeeze", 722_496), ("alex", 2_469_696), ("vgg", 14_714_688)]
)
def test_backbones_have_the_published_size_and_smallest_image(
    net: LPIPSNet, parameters: int
) -> None:
    model = LPIPS(net)
    assert sum(weight.numel() for weight in model.features.parameters()) == parameters
    side = BACKBONES[net].smallest_side
    images, references = torch.rand(2, 2, 3, side, side + 5)
    assert model(images, references).isfinite().all()
    assert model(images[..., 1:, :], references[..., 1:, :]).isnan().all()
    with pytest.raises(RuntimeError, match="too small"):
        model.distance(images[..., 1:, :], references[..., 1:, :])


@pytest.mark.parametrize("measure", [psnr, ms_ssim, LPIPS("squeeze")])
def test_images_that_cannot_be_compared_are_refused(measure: object) -> None:
    assert callable(measure)
    images = torch.rand(2, 3, 32, 40)
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 40\) and references \(2, 3, 40, 32\)"):
        measure(images, images.mT)
    with pytest.raises(ValueError, match=r"uint8.*\[B, 3, H, W\]"):
        measure((255 * images).byte(), images)
    with pytest.raises(ValueError, match=r"references range from .* to 2"):
        measure(images, 2 * images / images.max())
    with pytest.raises(ValueError, match="nan"):
        measure(images * math.nan, images)
    with pytest.raises(ValueError, match="no side may be 0"):
        measure(images[:, :, :0], images[:, :, :0])


def publish(monkeypatch: pytest.MonkeyPatch, net: LPIPSNet, url: str, sha256: str | None) -> None:
    backbone = BACKBONES[net]
    weights = replace(backbone.weights, url=f"{url}/weights.pth", sha256=sha256)
    heads = replace(backbone.heads, url=f"{url}/heads.pth")
    monkeypatch.setitem(BACKBONES, net, replace(backbone, weights=weights, heads=heads))


def test_weights_are_found_in_the_folder_that_the_environment_names(
    weight_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(PACKAGED))
    LPIPS.load("squeeze")
    assert not weight_cache.exists()


def test_folders_of_the_environment_may_begin_with_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/kept")
    file = WeightFile(("mine.pth",), "https://nowhere.invalid/mine.pth", None)
    for named, place in (("~/own", "own"), ("$SCRATCH/two", "two"), ("", "kept/diffjscc/metrics")):
        monkeypatch.setenv(FOLDER_VARIABLE, named)
        path = tmp_path / place / "mine.pth"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        assert find_weights("mine", (file,)) == [path]
        path.unlink()
    for variable in (FOLDER_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, "~nosuchuser/x")
        with pytest.raises(MetricUnavailable, match=f"{variable}=~nosuchuser/x: there is no user"):
            find_weights("mine", (file,))
        monkeypatch.setenv(variable, "")


def test_packaged_weights_need_no_network_and_a_users_own_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    published = LPIPS.load("squeeze")
    assert not list(tmp_path.iterdir())
    heads = PACKAGED / SQUEEZE_FILES[1]
    own = tmp_path / "own"
    own.mkdir()
    state = {key: 2 * value for key, value in read_state(heads).items()}
    torch.save(state, own / heads.name)
    images, references = torch.rand(2, 1, 3, 40, 40)
    twice = 2 * published(images, references)
    torch.testing.assert_close(LPIPS.load("squeeze", own)(images, references), twice)
    monkeypatch.setenv(FOLDER_VARIABLE, str(own))
    torch.testing.assert_close(LPIPS.load("squeeze")(images, references), twice)


def test_the_packaged_files_are_those_of_their_notice() -> None:
    notice = (PACKAGED / "NOTICE.md").read_text(encoding="utf-8")
    files = [path for path in PACKAGED.iterdir() if path.suffix in (".pth", ".npz")]
    assert len(files) == 3
    for path in files:
        assert f"| `{path.name}` |" in notice
        assert sha256_of(path) in notice


def test_weights_are_fetched_once_and_then_lie_in_the_cache(
    weight_cache: Path,
    site: tuple[Path, str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    squeeze: LPIPS,
) -> None:
    folder, url, asked = site
    weights, heads = (PACKAGED / name for name in SQUEEZE_FILES)
    # Whole torchvision files have prefixed keys and a classifier.
    state = torch.load(weights, map_location="cpu", weights_only=True)
    whole = {f"features.{key}": value for key, value in state.items()}
    torch.save(whole | {"classifier.1.weight": torch.zeros(10, 512, 1, 1)}, folder / "weights.pth")
    shutil.copy(heads, folder / "heads.pth")  # its published checksum stays in force
    prefix = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()[:8]
    publish(monkeypatch, "squeeze", url, prefix)
    images, references = torch.rand(2, 1, 3, 40, 40)
    for _ in range(2):
        model = LPIPS.load("squeeze")
        torch.testing.assert_close(model(images, references), squeeze(images, references))
    assert asked == ["/weights.pth", "/heads.pth"]
    assert sorted(path.name for path in weight_cache.iterdir()) == [
        "lpips_v0.1_squeeze.pth",
        "squeezenet1_1-b8a52dc0.pth",
    ]


def test_what_is_not_to_be_had_is_said_and_asked_for_once(
    weight_cache: Path,
    tmp_path: Path,
    site: tuple[Path, str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, url, asked = site
    publish(monkeypatch, "alex", url, "7be5be79")
    for _ in range(2):
        with pytest.raises(MetricUnavailable) as caught:
            LPIPS.load("alex", tmp_path / "mine")
        for part in ("alexnet-owt-7be5be79.pth", "lpips_v0.1_alex.pth", f"{url}/heads.pth", "404"):
            assert part in str(caught.value)
        for place in (tmp_path / "mine", weight_cache):
            assert str(place) in str(caught.value)
        assert FOLDER_VARIABLE in str(caught.value)
    assert asked == ["/weights.pth"]


def test_a_cache_that_cannot_be_written_makes_the_metric_unavailable(
    weight_cache: Path, site: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "alex", site[1], "7be5be79")
    weight_cache.parent.write_text("a file where the folder should be")
    with pytest.raises(MetricUnavailable, match="diffjscc"):
        LPIPS.load("alex")


def test_damaged_and_foreign_files_are_named(weight_cache: Path, tmp_path: Path) -> None:
    weights, heads = (tmp_path / name for name in SQUEEZE_FILES)
    weights.write_bytes(b"<html>log in first</html>")
    shutil.copy(PACKAGED / heads.name, heads)
    with pytest.raises(MetricUnavailable, match=rf"{weights.name} is damaged"):
        LPIPS.load("squeeze", tmp_path)
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, weights)
    with pytest.raises(MetricUnavailable, match=r"(?s)holds other weights.*3\.squeeze"):
        LPIPS.load("squeeze", tmp_path)

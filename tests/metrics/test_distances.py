"""Fréchet and kernel distances against closed forms and direct sums; features of patches."""

import io
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from diffjscc.data.files import sha256_of
from diffjscc.metrics import feature_networks as features
from diffjscc.metrics.distances import frechet_distance, kernel_distance
from diffjscc.metrics.feature_networks import InceptionFeatures, SqueezeNetFeatures, patches
from diffjscc.metrics.feature_store import FeatureFolder
from diffjscc.metrics.lpips import LPIPS
from diffjscc.metrics.weights import MetricUnavailable
from locations import PHOTOGRAPHS, PORTRAIT

QUALITIES = (60, 20, 5)

# The published Inception is TorchScript, whatever torch says of that.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def folder(path: Path, rows: Tensor, block: int = 40) -> FeatureFolder:
    """`rows` as float32, in blocks."""
    written = FeatureFolder(path)
    for number, part in enumerate(rows.float().split(block)):
        written.write(f"image{number:03}-0", part)
    return written


def with_moments(seed: int, count: int, mean: Tensor, deviations: Tensor) -> Tensor:
    """Rows whose sample mean and sample covariance (diagonal) are exactly these."""
    rows = normal(seed, count, len(mean))
    rows = rows - rows.mean(dim=0)
    root = torch.linalg.cholesky(rows.T.cov())
    return torch.linalg.solve_triangular(root, rows.T, upper=False).T * deviations + mean


def test_patches_overlap_by_half_from_the_top_left_corner() -> None:
    images = torch.rand(2, 3, 9, 13)
    cut = patches(images, side=4)
    corners = [(y, x) for y in (0, 2, 4) for x in (0, 2, 4, 6, 8)]  # a row and a column are left
    assert cut.shape == (2 * 15, 3, 4, 4)
    expected = [image[:, y : y + 4, x : x + 4] for image in images for y, x in corners]
    assert torch.equal(cut, torch.stack(expected))
    assert patches(torch.zeros(1, 3, 512, 768)).shape == (15, 3, 256, 256)
    assert patches(torch.zeros(1, 3, 256, 383)).shape == (1, 3, 256, 256)


def test_images_without_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"400x255 pixels holds no patch of 256x256.*at least 256"):
        patches(torch.zeros(1, 3, 255, 400))
    with pytest.raises(ValueError, match="side is 255"):
        patches(torch.zeros(1, 3, 300, 400), side=255)
    with pytest.raises(ValueError, match=r"\(3, 300, 400\); give"):
        patches(torch.zeros(3, 300, 400))


def test_frechet_distance_of_known_normal_distributions(tmp_path: Path) -> None:
    width = 24
    means = normal(0, 2, width)
    deviations = 0.5 + normal(1, 2, width).abs()
    real = folder(tmp_path / "real", with_moments(2, 300, means[0], deviations[0]))
    other = folder(tmp_path / "other", with_moments(3, 171, means[1], deviations[1]))
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert frechet_distance(real, other) == pytest.approx(expected.item(), rel=1e-5)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("count", [400, 30])  # more patches than features, and fewer
def test_frechet_distance_against_symmetric_square_roots(tmp_path: Path, count: int) -> None:
    mixing = normal(4, 2, 64, 64)
    a = (normal(5, count, 64) @ mixing[0]).float().double()
    b = (normal(6, count, 64) @ mixing[1] + 3).float().double()
    covariances = [rows.T.cov() for rows in (a, b)]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    squares = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0)
    expected = (a.mean(dim=0) - b.mean(dim=0)).square().sum() - 2 * squares.sqrt().sum()
    expected += sum(covariance.trace() for covariance in covariances)
    real, other = folder(tmp_path / "a", a), folder(tmp_path / "b", b)
    assert frechet_distance(real, other) == pytest.approx(expected.item(), rel=1e-6)


def kernel(x: list[float], y: list[float]) -> float:
    return float((np.dot(x, y) / len(x) + 1) ** 3)


def squared_mmd(x: list[list[float]], y: list[list[float]]) -> float:
    """The unbiased estimate of Bińkowski et al., pair by pair."""
    total = 0.0
    for rows in (x, y):
        pairs = [kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        total += sum(pairs) / len(pairs)
    return total - 2 * sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))


def test_kernel_distance_against_a_double_loop(tmp_path: Path) -> None:
    x, y = normal(7, 9, 6).float(), (1.3 * normal(8, 7, 6) + 0.4).float()
    real, other = folder(tmp_path / "x", x, 4), folder(tmp_path / "y", y, 4)
    expected = squared_mmd(x.tolist(), y.tolist())
    assert expected > 0.1
    assert kernel_distance(real, other) == (pytest.approx(expected, rel=1e-6), 0)


@pytest.mark.parametrize("size", [25, 70])  # subsets of both sets, and of the larger one alone
def test_subsets_give_the_whole_sets_distance_on_average(tmp_path: Path, size: int) -> None:
    x, y = normal(9, 60, 5).float(), (1.2 * normal(10, 90, 5) + 0.3).float()
    real, other = folder(tmp_path / "x", x), folder(tmp_path / "y", y)
    mean, deviation = kernel_distance(real, other, subsets=300, size=size, seed=1)
    assert mean == pytest.approx(squared_mmd(x.tolist(), y.tolist()), abs=4 * deviation / 300**0.5)
    assert deviation > 0
    assert kernel_distance(real, other, 300, size, 1) == (mean, deviation)
    assert kernel_distance(real, other, 300, size, 2)[0] != mean


def test_the_order_of_writing_does_not_matter(tmp_path: Path) -> None:
    blocks = {f"image{n}-{k}": normal(n + 10 * k, 20, 8).float() for n in range(9) for k in (0, 1)}
    straight, backwards = FeatureFolder(tmp_path / "a"), FeatureFolder(tmp_path / "b")
    for name, block in blocks.items():
        straight.write(name, block)
    backwards.write("image3-1", torch.zeros(99, 8))  # replaced below
    for name, block in reversed(blocks.items()):
        backwards.write(name, block)
    other = folder(tmp_path / "other", normal(99, 500, 8) + 1)
    assert straight.names() == backwards.names() == sorted(blocks)
    assert frechet_distance(straight, other) == frechet_distance(backwards, other)
    assert kernel_distance(straight, other, 5, 50) == kernel_distance(backwards, other, 5, 50)
    again = FeatureFolder(tmp_path / "b")  # as another process reads it
    assert frechet_distance(again, other) == frechet_distance(straight, other)


def test_memory_does_not_grow_with_the_number_of_blocks(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", normal(11, 60_000, 32), 2000)  # 256 kB a block, 7.7 MB in all
    other = folder(tmp_path / "other", normal(12, 4000, 32), 2000)
    tracemalloc.start()
    frechet_distance(real, other)
    kernel_distance(real, other, subsets=3, size=200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 256e3 < peak < 2e6


def test_rows_are_taken_by_number_from_the_files_that_hold_them(tmp_path: Path) -> None:
    rows = normal(13, 50, 3).float()
    taken = folder(tmp_path, rows, 12)
    assert (taken.count, taken.width, len(taken.names())) == (50, 3, 5)
    (tmp_path / "image001-0.npy").write_bytes(b"damaged")
    wanted = torch.tensor([49, 0, 36, 11, 0, 24])
    assert torch.equal(taken.take(wanted), rows[wanted])
    with pytest.raises(ValueError, match=r"image001-0\.npy holds no features"):
        taken.take(torch.tensor([12]))
    with pytest.raises(IndexError, match=r"3 to 50 are asked for.*0 to 49"):
        taken.take(torch.tensor([3, 50]))


def test_sets_without_a_distance_are_refused(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", normal(14, 10, 4))
    narrow = folder(tmp_path / "narrow", normal(15, 10, 3))
    single = folder(tmp_path / "single", normal(16, 1, 4))
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match=r"nothing holds features of 0 patches.*at least 2"):
            distance(real, FeatureFolder(tmp_path / "nothing"))
        with pytest.raises(ValueError, match=r"single holds features of 1 patches"):
            distance(single, real)
        with pytest.raises(ValueError, match=r"real holds 4 features per patch and .*narrow 3"):
            distance(real, narrow)
    with pytest.raises(ValueError, match="subsets is 0 and size is 1000"):
        kernel_distance(real, real, subsets=0)
    narrow.write("wide", torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"widths 3 .*and 5 \(wide\.npy\)"):
        frechet_distance(narrow, real)


def test_blocks_that_are_no_features_are_refused(tmp_path: Path) -> None:
    written = FeatureFolder(tmp_path / "features")
    for name in ("", "../a", "a/b", ".hidden", "a b"):
        with pytest.raises(ValueError, match="a block is named"):
            written.write(name, torch.zeros(2, 4))
    for block in (torch.zeros(4), torch.zeros(0, 4), torch.zeros(2, 4, dtype=torch.float64)):
        with pytest.raises(ValueError, match='features of block "a" are torch'):
            written.write("a", block)
    with pytest.raises(ValueError, match="NaN"):
        written.write("a", torch.tensor([[1.0, float("nan")]]))
    assert not written.path.exists()


@pytest.fixture(scope="module")
def squeezenet() -> SqueezeNetFeatures:
    return SqueezeNetFeatures.load()


def test_squeezenet_features_are_those_that_lpips_sees_last(squeezenet: SqueezeNetFeatures) -> None:
    images = torch.rand(35, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    lpips = LPIPS.load("squeeze")
    last = lpips.features((2 * images - 1 - lpips.shift) / lpips.scale).mean(dim=(2, 3))
    found = squeezenet(images)
    assert (found.shape, found.dtype) == ((35, squeezenet.width), torch.float32)
    torch.testing.assert_close(found, last, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="patches range from"):
        squeezenet(255 * images)


def test_distances_on_squeezenet_grow_with_the_distortion(
    squeezenet: SqueezeNetFeatures, tmp_path: Path
) -> None:
    real = FeatureFolder(tmp_path / "real")
    others = {quality: FeatureFolder(tmp_path / str(quality)) for quality in QUALITIES}
    for path in (*sorted(PHOTOGRAPHS.glob("*.webp")), PORTRAIT):
        image = Image.open(path)
        real.write(path.stem, squeezenet(patches(as_tensor(image))))
        for quality in QUALITIES:
            file = io.BytesIO()
            image.save(file, format="JPEG", quality=quality)
            others[quality].write(path.stem, squeezenet(patches(as_tensor(Image.open(file)))))
    assert (real.count, real.width) == (34, 512)
    frechet = [frechet_distance(real, others[quality]) for quality in QUALITIES]
    assert 100 < frechet[0] < frechet[1] / 2 < frechet[2] / 4 < 10_000
    kernels = [kernel_distance(real, others[quality])[0] for quality in QUALITIES]
    assert kernels[0] < 50 < kernels[1] < kernels[2] / 2
    assert kernels[2] < 10_000


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


class TinyInception(nn.Module):
    """Called as the published network is; its features are the means of the 8-bit levels."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        if x.dtype != torch.uint8 or not return_features:
            raise ValueError("not called as the published network is")
        return x.float().mean(dim=(1, 2, 3))[:, None].expand(-1, 2048)


@pytest.fixture(scope="module")
def tiny_inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception-2015-12-05.pt"
    torch.jit.script(TinyInception()).save(path)
    return path


@pytest.fixture
def inception_site(
    tiny_inception: Path, site: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[str]]:
    """Publishes what is saved at the returned path; the hash expected is that of the tiny one."""
    folder, url, asked = site
    file = replace(features.INCEPTION, url=f"{url}/net.pt", sha256=sha256_of(tiny_inception))
    monkeypatch.setattr(features, "INCEPTION", file)
    return folder / "net.pt", asked


def test_inception_is_fetched_once_and_sees_8_bit_levels(
    tiny_inception: Path, inception_site: tuple[Path, list[str]], weight_cache: Path
) -> None:
    inception_site[0].write_bytes(tiny_inception.read_bytes())
    levels = torch.tensor([0, 100.3, 254.6]) / 255
    images = levels[:, None, None, None].expand(-1, 3, 8, 8)
    for _ in range(2):
        net = InceptionFeatures.load()
        assert net(images).shape == (3, net.width)
        assert net(images)[:, 7].tolist() == [0, 100, 255]
    assert inception_site[1] == ["/net.pt"]
    assert [path.name for path in weight_cache.iterdir()] == ["inception-2015-12-05.pt"]
    assert InceptionFeatures.load(tiny_inception)(images[:1]).tolist() == [[0.0] * 2048]


def test_other_files_are_not_taken_for_inception(
    tiny_inception: Path, inception_site: tuple[Path, list[str]], weight_cache: Path, tmp_path: Path
) -> None:
    whole = tiny_inception.read_bytes()
    weight_cache.mkdir(parents=True)
    cut = weight_cache / "inception-2015-12-05.pt"
    cut.write_bytes(whole[:-100])
    with pytest.raises(MetricUnavailable, match="cut short") as caught:
        InceptionFeatures.load()
    for part in (str(cut), sha256_of(cut), sha256_of(tiny_inception), "Delete it", "/net.pt"):
        assert part in str(caught.value)
    foreign = tmp_path / "foreign.pt"
    foreign.write_bytes(whole + b"\0")
    with pytest.raises(MetricUnavailable, match=r"foreign\.pt has SHA-256"):
        InceptionFeatures.load(foreign)
    with pytest.raises(MetricUnavailable, match=r"missing\.pt is no file"):
        InceptionFeatures.load(tmp_path / "missing.pt")
    cut.unlink()
    inception_site[0].write_bytes(b"<html>log in first</html>")
    with pytest.raises(MetricUnavailable, match=r"FID weights missing.*is expected") as caught:
        InceptionFeatures.load()
    assert "DIFFJSCC_METRIC_WEIGHTS" in str(caught.value)
    assert not list(weight_cache.iterdir())

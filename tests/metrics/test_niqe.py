"""NIQE against values computed independently, and what it says of distorted photographs."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from diffjscc.metrics.niqe import WINDOW, Pristine, _fit, _halve, niqe
from diffjscc.metrics.weights import PACKAGED, MetricUnavailable


@pytest.fixture(scope="module")
def pristine() -> Pristine:
    return Pristine.load()


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def photograph(shared: Path, number: int) -> Image.Image:
    return Image.open(shared / f"data/kodak/kodim{number:02}.png").convert("RGB")


@pytest.mark.parametrize(
    ("number", "size", "value"),
    [  # by a direct computation with scipy, block by block, with imresize's own index arithmetic
        (1, (768, 512), 3.448795),
        (19, (512, 768), 2.676218),
        (15, (601, 500), 3.973469),
        (3, (768, 512), 4.250499),
    ],
)
def test_niqe_of_photographs(
    shared: Path, pristine: Pristine, number: int, size: tuple[int, int], value: float
) -> None:
    images = as_tensor(photograph(shared, number).crop((0, 0, *size)))
    # 3 and 15 have flat places, where the direct computation sees its own rounding errors.
    assert niqe(images, pristine).item() == pytest.approx(value, rel=2e-4)


def test_distortions_are_seen(shared: Path, pristine: Pristine) -> None:
    rng = np.random.default_rng(0)
    means = []
    for number in (2, 7, 13, 22):
        image = photograph(shared, number)
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=5)
        noise = rng.normal(0, 20, (image.height, image.width, 3))
        noisy = np.clip(np.array(image) + noise, 0, 255).round().astype(np.uint8)
        versions = [
            image,
            image.filter(ImageFilter.GaussianBlur(1)),
            image.filter(ImageFilter.GaussianBlur(3)),
            Image.fromarray(noisy),
            Image.open(file),
        ]
        values = niqe(torch.cat([as_tensor(version) for version in versions]), pristine)
        assert 2 < values[0] < 4
        assert (values[1:] > values[0] + 1).all()
        means.append(values)
    original, blurred, more_blurred, noisy, coarse = torch.stack(means).mean(dim=0).tolist()
    assert original < 3.2
    assert 4 < blurred < more_blurred - 2 < 20
    assert 7 < noisy < 12
    assert 8 < coarse < 14


def test_images_are_judged_one_by_one(shared: Path, pristine: Pristine) -> None:
    images = torch.cat([as_tensor(photograph(shared, n))[..., :300, :400] for n in (1, 2)])
    values = niqe(images, pristine)
    assert (values.shape, values.dtype) == ((2,), torch.float32)
    assert values.tolist() == [niqe(image[None], pristine).item() for image in images]
    assert niqe(images[..., :288, :384], pristine).tolist() == values.tolist()  # whole blocks


def test_two_blocks_are_the_least(shared: Path, pristine: Pristine) -> None:
    images = as_tensor(photograph(shared, 5))
    assert niqe(images[..., :96, :192], pristine).isfinite().all()
    assert niqe(images[..., :191, :191], pristine).isnan().all()
    assert niqe(images[..., :95, :700], pristine).isnan().all()
    assert niqe(torch.full((2, 3, 300, 300), 0.3), pristine).isnan().all()


def test_flat_blocks_do_not_count(shared: Path, pristine: Pristine) -> None:
    images = as_tensor(photograph(shared, 13))
    flat = torch.cat((images, torch.full((1, 3, 512, 480), 0.7)), dim=3)
    # The blocks beside the flat ones see their edge.
    assert niqe(flat, pristine).item() == pytest.approx(niqe(images, pristine).item(), abs=0.1)


def test_the_window_is_the_published_one() -> None:
    arrays = np.load(PACKAGED / "niqe_pris_params.npz")
    np.testing.assert_allclose(np.outer(WINDOW, WINDOW), arrays["gaussian_window"], atol=1e-12)


def test_half_size_is_antialiased_bicubic() -> None:
    luma = 255 * torch.rand(40, 64, dtype=torch.float64)
    small = Image.fromarray(luma.float().numpy()).resize((32, 20), Image.Resampling.BICUBIC)
    inside = np.s_[2:-2, 2:-2]  # Pillow cuts the filter at the edge rather than mirror
    np.testing.assert_allclose(_halve(luma).numpy()[inside], np.array(small)[inside], atol=1e-3)
    assert torch.allclose(_halve(torch.full_like(luma, 9)), torch.tensor(9.0, dtype=torch.float64))


def test_the_fit_finds_known_distributions() -> None:
    rng = np.random.default_rng(0)
    signs = rng.random((3, 400, 400)) < np.array([1 / 2, 1 / 2, 1 / 3])[:, None, None]
    gauss, laplace = rng.normal(0, 3, (400, 400)), rng.laplace(0, 2, (400, 400))
    magnitudes = np.stack([gauss, laplace, np.where(signs[2], 1, 2) * laplace])
    values = torch.from_numpy(np.where(signs, -1, 1) * np.abs(magnitudes))
    shape, left, right = _fit(values)
    # Density exp(-(|x|/scale)^shape) on each side: a normal distribution's scale is √2 σ.
    assert shape.tolist() == pytest.approx([2, 1, 1], rel=0.02)
    assert left.tolist() == pytest.approx([3 * 2**0.5, 2, 2], rel=0.02)
    assert right.tolist() == pytest.approx([3 * 2**0.5, 2, 4], rel=0.02)


def test_statistics_that_are_not_the_published_ones_are_refused(
    weight_cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "niqe_pris_params.npz"
    path.write_bytes((PACKAGED / path.name).read_bytes()[:5000])
    with pytest.raises(MetricUnavailable, match=r"niqe_pris_params\.npz has SHA-256"):
        Pristine.load(tmp_path)


def test_what_are_no_images_is_refused(pristine: Pristine) -> None:
    with pytest.raises(ValueError, match="images range from"):
        niqe(255 * torch.rand(1, 3, 200, 200), pristine)
    with pytest.raises(ValueError, match=r"give floats of shape \[B, 3, H, W\]"):
        niqe(torch.rand(3, 200, 200), pristine)

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
from locations import PHOTOGRAPHS, PORTRAIT


@pytest.fixture(scope="module")
def pristine() -> Pristine:
    return Pristine.load()


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def photograph(name: str) -> Image.Image:
    return Image.open(PORTRAIT if name == "portrait" else PHOTOGRAPHS / f"{name}.webp")


@pytest.mark.parametrize(
    ("name", "size", "value"),
    [  # by a direct computation with scipy, block by block, with imresize's own index arithmetic
        ("chelsea", (451, 300), 2.620039),
        ("astronaut", (300, 301), 4.533103),
        ("coffee", (600, 400), 4.232163),
    ],
)
def test_niqe_of_photographs(
    pristine: Pristine, name: str, size: tuple[int, int], value: float
) -> None:
    images = as_tensor(photograph(name).crop((0, 0, *size)))
    # The last two have flat places, where the direct computation sees its own rounding errors.
    assert niqe(images, pristine).item() == pytest.approx(value, rel=2e-4)


def test_distortions_are_seen(pristine: Pristine) -> None:
    rng = np.random.default_rng(0)
    means = []
    for name in ("astronaut", "coffee", "chelsea", "portrait"):
        image = photograph(name)
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
        assert 2.5 < values[0] < 4.5
        assert (values[1:] > values[0] + 1).all()
        means.append(values)
    original, blurred, more_blurred, noisy, coarse = torch.stack(means).mean(dim=0).tolist()
    assert original < 3.7
    assert 5 < blurred < more_blurred - 2 < 20
    assert 7 < noisy < 12
    assert 8 < coarse < 14


def test_images_are_judged_one_by_one(pristine: Pristine) -> None:
    images = torch.cat(
        [as_tensor(photograph(name))[..., :300, :400] for name in ("chelsea", "coffee")]
    )
    values = niqe(images, pristine)
    assert (values.shape, values.dtype) == ((2,), torch.float32)
    assert values.tolist() == [niqe(image[None], pristine).item() for image in images]
    assert niqe(images[..., :288, :384], pristine).tolist() == values.tolist()  # whole blocks


def test_two_blocks_are_the_least(pristine: Pristine) -> None:
    images = as_tensor(photograph("astronaut"))
    assert niqe(images[..., :96, :192], pristine).isfinite().all()
    assert niqe(images[..., :191, :191], pristine).isnan().all()
    assert niqe(images[..., :95, :500], pristine).isnan().all()
    assert niqe(torch.full((2, 3, 300, 300), 0.3), pristine).isnan().all()


def test_flat_blocks_do_not_count(pristine: Pristine) -> None:
    images = as_tensor(photograph("chelsea"))
    flat = torch.cat((images, torch.full((1, 3, 300, 480), 0.7)), dim=3)
    # The blocks beside the flat ones see their edge.
    assert niqe(flat, pristine).item() == pytest.approx(niqe(images, pristine).item(), abs=0.1)


def test_the_window_is_the_published_one() -> None:
    arrays = np.load(PACKAGED / "niqe_pris_params.npz")
    np.testing.assert_allclose(np.outer(WINDOW, WINDOW), arrays["gaussian_window"], atol=1e-12)


def test_half_size_is_antialiased_bicubic() -> None:
    luma = 255 * torch.rand(40, 64, dtype=torch.float64)
    small = Image.fromarray(luma.float().numpy()).resize((32, 20), Image.Resampling.BICUBIC)
    inside = np.s_[2:-2, 2:-2]  # Pillow cuts the filter at the edge rather than mirror
    np.testing.assert_allclose(
        _halve(luma, True, True).numpy()[inside], np.array(small)[inside], atol=1e-3
    )
    assert torch.allclose(
        _halve(torch.full_like(luma, 9), True, True), torch.tensor(9.0, dtype=torch.float64)
    )


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


def test_bands_of_a_large_image_give_the_whole_images_value(
    pristine: Pristine, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = torch.from_numpy(np.array(photograph("coffee"))).permute(2, 0, 1)[None]
    whole = niqe(levels, pristine)
    torch.testing.assert_close(niqe(levels / 255, pristine), whole, rtol=0, atol=0)
    monkeypatch.setattr("diffjscc.metrics.niqe.TILE", 0)
    for pixels in (1, 2 * 96 * levels.shape[-1]):
        monkeypatch.setattr("diffjscc.metrics.niqe.BAND", pixels)
        torch.testing.assert_close(niqe(levels, pristine), whole, rtol=1e-9, atol=0)

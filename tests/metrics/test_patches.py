"""Patches of FID/256 against their definition, and what is said of sets too small for a metric."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diffjscc.cli import app
from diffjscc.evaluation.records import PointDistances
from diffjscc.evaluation.results import read_results
from diffjscc.metrics.catalogue import undefined
from diffjscc.metrics.feature_networks import SqueezeNetFeatures, patches, patches_256


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(512, 768, 8), (256, 256, 1), (640, 700, 5), (1024, 1000, 18), (767, 511, 2)],
)
def test_the_patches_of_fid_256_are_those_of_its_definition(
    height: int, width: int, count: int
) -> None:
    images = torch.rand(1, 3, height, width)
    expected = []
    for origin, fewer in ((0, 0), (128, 1)):
        for i in range(height // 256 - fewer):
            for j in range(width // 256 - fewer):
                top, left = origin + 256 * i, origin + 256 * j
                expected.append(images[0, :, top : top + 256, left : left + 256])
    found = patches(images)[patches_256(height, width)]
    assert len(found) == len(expected) == count
    assert {float(one.double().sum()) for one in found} == {
        float(one.double().sum()) for one in expected
    }


def test_metrics_that_some_images_are_too_small_for_are_named() -> None:
    sizes = [(32, 32), (96, 192), (500, 161), (20, 900)]
    assert undefined(["psnr", "ms_ssim", "lpips", "niqe", len], sizes) == [
        "MS-SSIM of 3 of 4 images: it is not defined under 161x161 pixels",
        "NIQE of 2 of 4 images: it is not defined under 96x192 pixels",
    ]
    assert undefined(["lpips"], [(8, 8)])[0].startswith("LPIPS of the images")
    assert undefined(["psnr"], [(1, 1)]) == []


def photo(path: Path, height: int, width: int) -> Path:
    rng = np.random.default_rng(height)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def test_small_images_go_without_some_measures(tmp_path: Path) -> None:
    path = photo(tmp_path / "small.png", 32, 32)
    options = ("--scheme", "deepjscc", "--rate", "1/16", "--snr", "7")
    arguments = ["evaluate", str(path), *options, "-o", str(tmp_path / "results")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "MS-SSIM of the images: it is not defined under 161x161 pixels" in result.stderr
    assert "distances between distributions need two patches" in result.stderr
    results = read_results(tmp_path / "results")
    (record,) = results.records
    assert record.metrics["ms_ssim"] is None
    assert record.metrics["psnr"] is not None
    assert len(results.setup.left_out) == 3
    arguments = ["transmit", str(path), "--refiner", "none", "-o", str(tmp_path / "sent")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "without MS-SSIM of the images" in result.stderr


def test_few_patches_are_marked_as_biased(tmp_path: Path) -> None:
    path = photo(tmp_path / "large.png", 512, 512)
    options = ("--scheme", "deepjscc", "--rate", "1/64", "--snr", "7", "--repeats", "2")
    arguments = ["evaluate", str(path), *options, "-o", str(tmp_path / "results")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "biased upwards, as there are no more patches than features" in said
    assert "kernel distance (SqueezeNet)" in said
    (measured,) = read_results(tmp_path / "results").distances
    assert (measured.patches, measured.biased) == (18, True)
    assert measured.frechet_256 is not None
    assert measured.frechet_256 != measured.frechet
    old = PointDistances(*measured.point, "inception", 9000, 1.0, 0.1, 0.0)
    assert old.biased is None  # results of an earlier version


@pytest.mark.parametrize("size", [(64, 64), (130, 97), (96, 490)])
def test_features_of_an_image_are_those_of_its_patches(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = SqueezeNetFeatures()
    image = torch.rand(1, 3, *size)
    found = net.of_image(image, 64)
    torch.testing.assert_close(found, net(patches(image, 64)), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="side is 62"):
        net.of_image(image, 62)
    with pytest.raises(ValueError, match="holds no patch"):
        net.of_image(image, 512)

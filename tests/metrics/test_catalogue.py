"""The table of metrics, and users' own ones."""

import math

import pytest
import torch
from torch import Tensor

from diffjscc.choices import DEFAULT_METRICS
from diffjscc.metrics.catalogue import METRICS, custom_metric
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.metrics.fidelity import ms_ssim, psnr


def brightness(images: Tensor, references: Tensor) -> Tensor:
    return (images - references).mean(dim=(1, 2, 3))


def test_every_default_is_in_the_table_under_its_own_name() -> None:
    assert set(DEFAULT_METRICS) <= METRICS.keys()
    assert all(name == entry.info.name for name, entry in METRICS.items())
    assert METRICS["psnr"].info.heading == "PSNR / dB"
    assert METRICS["psnr"].info.text(21.499) == "PSNR 21.50 dB"
    assert METRICS["lpips"].info.text(0.43115) == "LPIPS 0.431"


def test_metrics_by_name_and_of_ones_own() -> None:
    images, references = torch.rand(2, 2, 3, 20, 30)
    evaluator, unavailable = MetricEvaluator.load(["psnr", "ms_ssim", brightness])
    assert not unavailable
    assert [info.name for info in evaluator.infos] == ["psnr", "ms_ssim", "brightness"]
    found = evaluator(images, references)
    assert [one["psnr"] for one in found] == psnr(images, references).tolist()
    assert [one["brightness"] for one in found] == brightness(images, references).tolist()
    assert [one["ms_ssim"] for one in found] == [None, None]  # too small: not defined
    assert ms_ssim(images, references).isnan().all()


def test_attributes_say_how_it_is_shown() -> None:
    def own(images: Tensor, references: Tensor) -> Tensor:
        return brightness(images, references)

    plain = custom_metric(own).info
    assert (plain.heading, plain.higher_is_better, plain.digits) == ("own", True, 4)
    own.label, own.unit, own.higher_is_better, own.digits = "bias", "%", False, 1  # type: ignore[attr-defined]
    info = custom_metric(own).info
    assert (info.name, info.heading, info.text(3.14)) == ("own", "bias / %", "bias 3.1 %")
    assert not info.higher_is_better
    own.digits = "many"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="'many'; it must be int"):
        custom_metric(own)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(3), r"shape \(3,\) for 2 images"),
        (torch.tensor(0.5), r"shape \(\) for 2 images"),
        (torch.tensor([0.0, math.inf]), "infinite"),
        ([0.0, 0.0], "returned a list"),
    ],
)
def test_values_are_checked(values: Tensor, message: str) -> None:
    def wrong(images: Tensor, references: Tensor) -> Tensor:
        return values

    evaluator, _ = MetricEvaluator.load([wrong])
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(ValueError, match=message):
        evaluator(images, images)


def test_names_are_checked() -> None:
    def lpips(images: Tensor, references: Tensor) -> Tensor:
        return brightness(images, references)

    with pytest.raises(ValueError, match="'psn' is not one of psnr"):
        MetricEvaluator.load(["psn"])
    with pytest.raises(ValueError, match="called lpips; give yours another name"):
        MetricEvaluator.load([lpips])
    with pytest.raises(ValueError, match="two metrics are called brightness"):
        MetricEvaluator.load([brightness, brightness])
    with pytest.raises(ValueError, match="no name of its own"):
        MetricEvaluator.load([lambda images, references: images])
    with pytest.raises(ValueError, match="not callable"):
        MetricEvaluator.load([3])  # type: ignore[list-item]

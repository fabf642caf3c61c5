"""Metrics that keep what they computed of an original give what they give without."""

import pytest
import torch
from torch import Tensor

from diffjscc.metrics import references
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.metrics.fidelity import ms_ssim
from diffjscc.metrics.lpips import LPIPS
from diffjscc.metrics.references import Prepared, References


class Counting:
    """Mean of images minus a mean of references that is computed as seldom as possible."""

    def __init__(self) -> None:
        self.prepared = 0

    def prepare(self, references: Tensor) -> Prepared:
        self.prepared += 1
        return (references.float().mean(dim=(1, 2, 3)),)

    def against(self, images: Tensor, prepared: Prepared) -> Tensor:
        return images.float().mean(dim=(1, 2, 3)) - prepared[0]


@pytest.fixture
def images() -> Tensor:
    """8-bit levels of two originals, and of two reconstructions of each, uint8 [4, 3, H, W]."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (4, 3, 175, 168), generator=generator)
    return levels.to(torch.uint8)


def test_values_are_those_of_the_metrics_themselves(images: Tensor) -> None:
    originals = torch.cat((images[:2], images[:2]))
    evaluator, _ = MetricEvaluator.load(["ms_ssim", "lpips"])
    with torch.no_grad():
        lpips = LPIPS.load("squeeze")(images, originals).tolist()
    expected = ms_ssim(images, originals).tolist()
    for _ in range(2):  # the second time with what was kept
        for i, found in enumerate(evaluator(images, originals)):
            assert found["ms_ssim"] == pytest.approx(expected[i], abs=1e-6)
            assert found["lpips"] == pytest.approx(lpips[i], abs=1e-6)


def test_an_original_is_prepared_once(images: Tensor) -> None:
    kept, metric = References(), Counting()
    for _ in range(3):
        for image in images:
            (mean,) = kept.prepared("counting", metric, image[None])
            assert mean.item() == pytest.approx(image.float().mean().item())
    assert metric.prepared == len(images)
    kept.prepared("another", metric, images[:1])
    assert metric.prepared == len(images) + 1


def test_what_is_kept_is_bounded(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "KEPT_BYTES", 9)  # two numbers of float32
    kept, metric = References(), Counting()
    for index in (0, 1, 0, 1, 2, 1, 2, 0):
        kept.prepared("counting", metric, images[index : index + 1])
    assert metric.prepared == 4  # 0, 1, 2 and 0 once more

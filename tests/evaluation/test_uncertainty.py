"""Disagreement of samples: by hand, against known variances, and with the bundled receiver."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc import AWGN, DiffJSCC
from diffjscc.cli.jobs import Job
from diffjscc.data.images import load_image, quantise
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.transmission import Link
from diffjscc.evaluation.uncertainty import FULL_SCALE, colours, disagreement
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.report.panels import MARGIN
from diffjscc.report.uncertainty import map_label, uncertainty_image
from locations import PHOTOGRAPHS

SIDE = 256


def lightness(colour: Tensor) -> Tensor:
    """CIE lightness of sRGB colours [3, …]."""
    linear = torch.where(colour > 0.04045, ((colour + 0.055) / 1.055) ** 2.4, colour / 12.92)
    luminance = torch.einsum("c...,c->...", linear, torch.tensor([0.2126, 0.7152, 0.0722]))
    cube_root = luminance.clamp(min=0.008856) ** (1 / 3)
    return torch.where(luminance > 0.008856, 116 * cube_root - 16, 903.3 * luminance)


def test_a_case_by_hand() -> None:
    """Variances 0.01, 0.03 and 0 in the three channels of one pixel."""
    pixel = torch.tensor([[0.1, 0.5, 0.7], [0.2, 0.5, 0.7], [0.3, 0.8, 0.7]])
    samples = torch.full((3, 3, 2, 4), 1 / 3)
    samples[:, :, 1, 2] = pixel
    expected = torch.zeros(2, 4)
    expected[1, 2] = math.sqrt(0.04 / 3)
    torch.testing.assert_close(disagreement(samples), expected)


@pytest.mark.parametrize("number", [2, 3, 8])
def test_the_variance_is_unbiased(number: int) -> None:
    noise = torch.randn(number, 3, 200, 200, generator=torch.Generator().manual_seed(0))
    deviation = torch.tensor([0.02, 0.04, 0.06])[:, None, None]
    spread = disagreement((0.5 + deviation * noise).clamp(0, 1))
    expected = (0.02**2 + 0.04**2 + 0.06**2) / 3
    assert spread.square().mean().item() == pytest.approx(expected, rel=0.02)


def test_agreement_is_exactly_zero() -> None:
    image = quantise(torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0)))
    samples = image.repeat(7, 1, 1, 1)
    assert not disagreement(samples).any()
    samples[3, 1, 5, 6] = 1 - image[1, 5, 6]
    assert disagreement(samples).nonzero().tolist() == [[5, 6]]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.rand(1, 3, 4, 4), "give at least 2"),
        (torch.rand(3, 4, 4), r"\[B, 3, H, W\]"),
        (torch.rand(4, 1, 4, 4), r"\[B, 3, H, W\]"),
        (255 * torch.rand(4, 3, 4, 4), "divide 8-bit values"),
        (torch.full((2, 3, 4, 4), math.nan), "range from nan"),
    ],
)
def test_samples_that_are_none(samples: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        disagreement(samples)


def test_colours_grow_lighter_evenly_and_saturate() -> None:
    spread = torch.linspace(0, FULL_SCALE, 256)[None]
    scale = colours(spread)
    light = lightness(scale[:, 0])
    steps = light[16:].diff()
    assert light[0] < 1
    assert light[-1] > 95
    assert (steps > 0).all()
    assert steps.std() < 0.5 * steps.mean()
    torch.testing.assert_close(colours(torch.tensor([[0.9, FULL_SCALE]])), scale[..., [-1, -1]])
    torch.testing.assert_close(colours(2 * spread, 2 * FULL_SCALE), scale)


@pytest.mark.parametrize("size", [(20, 24), (96, 768), (700, 400)])
def test_the_image_is_the_map_with_a_bar_below(size: tuple[int, int]) -> None:
    height, width = size
    spread = FULL_SCALE * torch.rand(size, generator=torch.Generator().manual_seed(0))
    image = uncertainty_image(spread)
    assert torch.equal(image[:, :height, :width], quantise(colours(spread)))
    assert image.shape[2] == max(width, 320)
    bar = image[:, height + MARGIN, MARGIN:-MARGIN]
    levels = torch.linspace(0, FULL_SCALE, bar.shape[1])[None]
    assert torch.equal(bar, quantise(colours(levels))[:, 0])
    other = uncertainty_image(2 * spread, 2 * FULL_SCALE)
    numbers = (other != image).any(0).any(1).nonzero()
    assert numbers.min() > height + MARGIN
    assert numbers.max() - numbers.min() > MARGIN  # the ticks', and the mean below them


@pytest.mark.parametrize(
    ("spread", "full_scale", "message"),
    [
        (torch.rand(3, 4, 4), 0.1, r"give floats \[H, W\]"),
        (torch.zeros(4, 4, dtype=torch.int64), 0.1, r"give floats \[H, W\]"),
        (torch.tensor([[0.1, -0.1]]), 0.1, "ranges from -0.1"),
        (torch.tensor([[0.1, math.nan]]), 0.1, "ranges from nan"),
        (torch.rand(4, 4), 0.0, "full_scale is 0.0"),
        (torch.rand(4, 4), math.nan, "full_scale is nan"),
    ],
)
def test_maps_that_are_none(spread: Tensor, full_scale: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        colours(spread, full_scale)


def test_the_label_gives_the_mean_in_levels() -> None:
    words = map_label(torch.tensor([[0.0, 2 / 255], [4 / 255, 8 / 255]]), 5)
    assert "5 images" in words
    assert "by 3.5 of 255 levels" in words
    assert "yellow by 24 or more" in words
    assert "nothing was generated" in map_label(torch.zeros(2, 2), 5, refined=False)


@pytest.fixture(scope="module")
def link() -> Link:
    return Link(
        name="diffjscc",
        scheme=DiffJSCC.from_pretrained("compact", "1/128", device="cpu"),
        channel=AWGN(1.0),
        channel_label="awgn",
        snr_db=1.0,
        seed=0,
        evaluator=MetricEvaluator(()),
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="module")
def coast() -> SourceImage:
    """Sky in its upper quarter, lights in its lower."""
    pixels = load_image(PHOTOGRAPHS / "rocket.webp")
    return SourceImage("coast", pixels[:, 100 : 100 + SIDE, 100 : 100 + SIDE].contiguous())


@pytest.fixture(scope="module")
def samples(link: Link, coast: SourceImage) -> Tensor:
    return link.samples(coast, 0, 8)


def test_the_map_finds_what_is_hard(samples: Tensor, coast: SourceImage) -> None:
    """Over blocks of 16x16 pixels: the correlation was 0.79, and 0.68 with another seed."""
    spread = disagreement(samples)
    sky, rocks = spread[: SIDE // 4].mean(), spread[-SIDE // 4 :].mean()
    assert rocks > 1.5 * sky
    error = (samples[0] - coast.pixels).square().mean(0).sqrt()
    blocks = F.avg_pool2d(torch.stack([spread, error]), 16).flatten(1)
    assert torch.corrcoef(blocks)[0, 1] > 0.5


def test_the_map_understates_the_error(samples: Tensor, coast: SourceImage) -> None:
    """As the docstring has it: samples share the initial image, and its errors."""
    spread = disagreement(samples).square().mean().sqrt()
    error = (samples.mean(0) - coast.pixels).square().mean().sqrt()
    assert 0.1 * error < spread < 0.6 * error


def test_the_first_sample_is_what_was_delivered(
    link: Link, samples: Tensor, coast: SourceImage
) -> None:
    (delivery,) = link.transmit([coast], [0])
    assert torch.equal(samples[0], delivery.final)
    assert not torch.equal(samples[1], delivery.final)


def test_the_seed_decides(link: Link, coast: SourceImage) -> None:
    small = SourceImage("rocks", coast.pixels[:, -64:, :64].contiguous())
    few = link.samples(small, 1, 2)
    assert torch.equal(link.samples(small, 1, 3)[:2], few)
    assert not torch.equal(link.samples(small, 0, 2), few)
    assert not torch.equal(replace(link, seed=1).samples(small, 1, 2), few)


def test_nothing_painted_is_no_disagreement(link: Link, coast: SourceImage) -> None:
    """A receiver whose start level is 0 leaves the codec's image as it is."""
    small = SourceImage("rocks", coast.pixels[:, -64:, :64].contiguous())
    scheme = DiffJSCC.from_pretrained("compact", "1/16", device="cpu")
    assert isinstance(scheme.refiner, ControlledDiffusion)
    config = replace(scheme.refiner.config.at_full_strength, texture_span=None, texture_margin=None)
    scheme.refiner.config = config
    sampler = replace(config.sampler, start_levels=((1.0, 0.0),))
    good = replace(link, scheme=scheme, channel=AWGN(20.0), snr_db=20.0)
    assert disagreement(good.samples(small, 0, 3)).any()
    scheme.refiner.config = replace(config, sampler=sampler)
    assert not disagreement(good.samples(small, 0, 3)).any()


def test_a_codec_alone_has_no_samples(link: Link, coast: SourceImage, tmp_path: Path) -> None:
    alone = replace(link, scheme=DiffJSCC.from_pretrained("compact", refiner=None, device="cpu"))
    with pytest.raises(ValueError, match="no refiner that samples"):
        alone.samples(coast, 0, 2)
    with pytest.raises(ValueError, match=r"compact@\w+ goes without one"):
        Job(alone, 1, tmp_path, samples=2)

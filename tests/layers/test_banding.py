"""Bands of rows through networks: the whole image's result, a little memory, and progress."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diffjscc.layers.banding import Stage, run, whole
from diffjscc.progress import listening

KERNELS = torch.randn(3, 2, 2, 5, 3, generator=torch.Generator().manual_seed(0)) / 4


def convolution(number: int) -> Stage:
    def layer(x: Tensor, keep: slice, top: int) -> Tensor:
        del top
        return F.conv2d(x, KERNELS[number], padding=(2, 1))[..., keep, :]

    return Stage(layer, reach=2)


def halved(x: Tensor, keep: slice, top: int) -> Tensor:
    del top
    return F.avg_pool2d(x, (6, 1), stride=(2, 1), padding=(2, 0))[..., keep, :]


def doubled(x: Tensor, keep: slice, top: int) -> Tensor:
    del top
    return x[..., keep, :].repeat_interleave(2, dim=-2)


def numbered(x: Tensor, keep: slice, top: int) -> Tensor:
    """Adds its own number to each row."""
    rows = torch.arange(top, top + x.shape[-2])[:, None]
    return (x + rows)[..., keep, :]


NETWORK = [
    convolution(0),
    Stage(halved, reach=1, step=2),
    convolution(1),
    Stage(numbered),
    Stage(doubled),
    convolution(2),
]


@pytest.mark.parametrize("band", [2, 4, 6, 10, 34, 50, 58, 60, 100])
def test_bands_give_what_the_whole_image_gives(band: int) -> None:
    image = torch.rand(2, 2, 60, 7, generator=torch.Generator().manual_seed(1))
    expected = whole(NETWORK, image)
    found = run(NETWORK, lambda rows: image[..., rows, :], (60, 60), band, "filtering")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_no_layer_gets_more_than_a_band_and_its_margin() -> None:
    most = 0

    def watched(x: Tensor, keep: slice, top: int) -> Tensor:
        nonlocal most
        del top
        most = max(most, x.shape[-2])
        return x[..., keep, :]

    deep = [stage for _ in range(12) for stage in (convolution(0), Stage(watched, reach=3))]
    image = torch.zeros(1, 2, 400, 3)
    run(deep, lambda rows: image[..., rows, :], (400, 400), 8, "filtering")
    assert most <= 8 + 2 * 3


def test_progress_is_reported_band_by_band() -> None:
    image = torch.zeros(1, 2, 20, 3)
    heard: list[tuple[str, int, int]] = []
    with listening(lambda *report: heard.append(report)):
        for band in (8, 20):
            run(NETWORK, lambda rows: image[..., rows, :], (20, 20), band, "filtering")
    assert heard == [("filtering", done, 3) for done in range(4)]  # one piece is no progress
    run(NETWORK, lambda rows: image[..., rows, :], (20, 20), 8, "filtering")  # nobody listens

"""The initial image stays where it has as much texture as the received map says."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffjscc.data.geometry import PaddedImages
from diffjscc.layers.texture import texture_map
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.finishing import only_where_missing
from toy_refiner import make_control, make_unet, make_vae, receive

SPAN = (0.0, 0.5)


def images(seed: int, height: int = 96, width: int = 128) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def mixed(texture: Tensor, rows: int = 96) -> Tensor:
    bands = iter(images(1).split(rows, dim=-2))
    prepared = PaddedImages(images(2), 16)
    return torch.cat(list(only_where_missing(bands, prepared, texture, SPAN)), dim=-2)


@pytest.mark.parametrize(("missing", "share"), [(-1, 0), (0, 0), (0.25, 0.5), (0.5, 1), (3, 1)])
def test_the_share_follows_from_the_octaves_that_are_missing(missing: float, share: float) -> None:
    expected = torch.lerp(images(2), images(1), share)
    out = mixed(texture_map(images(2)) + missing)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


def test_places_differ() -> None:
    texture = texture_map(images(2))
    texture[..., 4:] += 3
    out = mixed(texture)
    torch.testing.assert_close(out[..., :56], images(2)[..., :56], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[..., 72:], images(1)[..., 72:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [16, 32, 48])
def test_bands_give_the_whole_image(rows: int) -> None:
    draw = torch.Generator().manual_seed(3)
    texture = texture_map(images(2)) + torch.rand(2, 1, 6, 8, generator=draw) - 0.25
    torch.testing.assert_close(mixed(texture, rows), mixed(texture), atol=1e-6, rtol=0)


def make(span: tuple[float, float] | None) -> ControlledDiffusion:
    torch.manual_seed(0)
    unet = make_unet()
    config = DiffusionConfig(colour_fix="none", missing_span=span)
    config = replace(config, sampler=replace(config.sampler, num_inference_steps=2))
    return ControlledDiffusion(make_vae(), unet, make_control(unet), config=config)


def refined(refiner: ControlledDiffusion, initial: Tensor, texture: Tensor | None) -> Tensor:
    received = replace(receive([1.0, 5.0]), texture=texture)
    return refiner.sample(initial, received, 2, torch.Generator().manual_seed(5)).image


def test_each_image_and_sample_has_its_own_map() -> None:
    initial = images(4, 64, 96)
    texture = torch.full((2, 1, 4, 6), 12.0)
    texture[1] = -2
    out, plain = (refined(make(span), initial, texture) for span in (SPAN, None))
    torch.testing.assert_close(out[:2], plain[:2], atol=1e-6, rtol=0)
    assert torch.equal(out[2:], initial[[1, 1]])


def test_any_size_is_finished() -> None:
    initial = images(4, 50, 70)
    assert torch.equal(refined(make(SPAN), initial, torch.full((2, 1, 4, 5), -2.0))[::2], initial)


def test_without_a_map_or_a_span_nothing_changes() -> None:
    initial = images(4, 64, 96)
    plain = refined(make(None), initial, None)
    assert torch.equal(refined(make(SPAN), initial, None), plain)
    assert torch.equal(refined(make(None), initial, torch.full((2, 1, 4, 6), -2.0)), plain)

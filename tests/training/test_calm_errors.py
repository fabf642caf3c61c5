"""Errors of calm areas and of the texture map: what their weights do, in every stage of a codec."""

import pytest
import torch

from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.training.adversarial import AdversarialLosses
from diffjscc.training.codec_config import AdversarialConfig, JSCCConfig, LossConfig
from diffjscc.training.discriminator import PatchDiscriminator
from diffjscc.training.jscc import CodecLosses
from diffjscc.training.losses import calm_errors

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
MAPS = torch.zeros(2, 1, 4, 4)


def test_the_sum_is_weighted_and_nothing_is_computed_without_a_weight() -> None:
    assert calm_errors(IMAGES, MAPS, IMAGES, LossConfig()) == (torch.zeros(()), {})
    config = LossConfig(texture=0.5, flat_colour=2.0)
    total, errors = calm_errors(IMAGES.flip(0), MAPS, IMAGES, config)
    assert errors.keys() == {"texture", "flat colour"}
    torch.testing.assert_close(total, 0.5 * errors["texture"] + 2 * errors["flat colour"])
    assert calm_errors(IMAGES, None, IMAGES, LossConfig(texture=0.5))[1] == {}


@pytest.mark.parametrize("stage", ["jscc", "adversarial"])
def test_every_stage_of_a_codec_takes_them(stage: str) -> None:
    torch.manual_seed(0)
    small = {"widths": (16, 24), "encoder_blocks": (1, 1), "decoder_blocks": (1, 1)}
    codec = CompactJSCC(CompactConfig(**small, texture=True))
    values = {
        "codec": {"class": "CompactJSCC"},
        "data": {"train": "x"},
        "loss": {"texture": 0.1, "flat_colour": 1.0},
        "run": {"iterations": 1, "batch": 2},
    }
    numbers = torch.tensor([1.0, 7.0]), torch.tensor([0, 3]), torch.tensor([1, 2])
    if stage == "jscc":
        losses, _ = CodecLosses(codec, JSCCConfig.model_validate(values))(IMAGES, *numbers)
    else:
        config = AdversarialConfig.model_validate(values)
        losses, _ = AdversarialLosses(codec, PatchDiscriminator(8), config)(IMAGES, *numbers, 0)
    assert losses["texture"] > 0
    assert losses["flat colour"] > 0

"""Where the receiver helps: regions repaired and broken, and the strength that follows."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffjscc import DiffJSCC, Received, Scheme
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.data.sources import FolderSource
from diffjscc.evaluation.benefit import Benefit, measure_benefit, strength_of
from diffjscc.evaluation.photographs import choose_photographs
from diffjscc.metrics.lpips import LPIPS
from diffjscc.metrics.regions import regional_lpips
from diffjscc.pretrained.benefit import FILE, read_strength, save_benefit
from diffjscc.pretrained.offered import BUNDLED
from diffjscc.pretrained.receiver import load_refiner, save_refiner
from diffjscc.protocols import Reconstruction
from diffjscc.refiners.config import FULL, DiffusionConfig
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.likelihood import LikelihoodConfig
from diffjscc.refiners.sampling import SamplerConfig
from diffjscc.report.benefit import benefit_figure
from diffjscc.schemes.options import RefinerOptions
from toy_refiner import generators, make_refiner, receive


def point(rate: str, snr_db: float, net: float, half_width: float = 0.01) -> Benefit:
    return Benefit(rate, snr_db, 0.05 + net, 0.05, half_width, 0.3, 8)


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    torch.manual_seed(0)
    untrained = LPIPS("squeeze")
    for head in untrained.heads:
        head.weight.data.abs_()  # distances, as of a trained one
    return untrained


def test_regions_add_up_to_lpips_and_show_where(lpips: LPIPS) -> None:
    references = torch.rand(2, 3, 128, 192)
    images = references.clone()
    images[1, :, 64:, 128:] = torch.rand(3, 64, 64)
    regions = regional_lpips(lpips, images, references)
    assert regions.shape == (2, 2, 3)
    assert float(regions[0].abs().max()) == 0
    assert int(regions[1].abs().argmax()) == 5
    other = torch.rand(2, 3, 128, 192)
    regions = regional_lpips(lpips, other, references)
    assert torch.allclose(regions.mean(dim=(1, 2)), lpips(other, references), rtol=0.03)


def test_strength_falls_where_generating_stops_to_help() -> None:
    helps, hurts = 0.05, -0.02
    falling = [point("1/16", s, n) for s, n in ((1, helps), (7, helps), (13, 0.005), (19, hurts))]
    curve = strength_of(falling)
    assert curve == ((falling[1].bits, 1.0), (falling[2].bits, 0.0))
    doubtful = [*falling, point("1/16", 4, 0.001)]  # between two that it helps at
    assert strength_of(doubtful) == ((falling[0].bits, 1.0), (falling[2].bits, 0.0))
    assert strength_of([point("1/16", 1, helps), point("1/16", 9, helps)]) == FULL
    nothing = strength_of([point("1/16", 1, hurts), point("1/16", 9, 0.0)])
    assert all(factor == 0 for _, factor in nothing)
    with pytest.raises(ValueError, match="measure some"):
        strength_of([])
    for config in (curve, nothing):
        DiffusionConfig(strength=config)


def test_the_start_level_follows_and_noise_is_all_or_nothing() -> None:
    level = ((0.01, 0.8),)
    early = DiffusionConfig(
        SamplerConfig(start="initial", start_levels=level), strength=((0.1, 1.0), (0.4, 0.0))
    )
    assert early.start_level(0.05) == pytest.approx(0.8)
    assert early.start_level(0.2) == pytest.approx(0.4)
    assert early.start_level(0.5) == 0
    assert early.at_full_strength.start_level(0.5) == pytest.approx(0.8)
    guided = replace(early, likelihood=LikelihoodConfig(scale=1.0))
    assert guided.start_level(0.5) == pytest.approx(0.8)
    noise = replace(early, sampler=SamplerConfig())
    assert [noise.start_level(bits) for bits in (0.05, 0.2, 0.5)] == [1, 1, 0]


def test_a_receiver_of_strength_0_keeps_the_initial_image() -> None:
    initial, received = torch.rand(1, 3, 8, 8), receive([10.0])
    own = make_refiner()
    weak = make_refiner(strength=((1.0, 0.0),))
    assert torch.equal(weak.refine(initial, received, generators(1)).image, initial)
    changed = own.refine(initial, received, generators(1)).image
    assert not torch.equal(changed, initial)
    RefinerOptions(full_strength=True).apply(weak)
    assert torch.equal(weak.refine(initial, received, generators(1)).image, changed)


def test_the_table_lies_with_the_weights(tmp_path: Path) -> None:
    save_refiner(make_refiner(), tmp_path)
    strength = ((0.1, 1.0), (0.3, 0.0))
    save_benefit(strength, [{"rate": "1/16", "net": 0.1}], tmp_path / FILE)
    assert load_refiner(tmp_path).config.strength == strength
    save_refiner(make_refiner(), tmp_path)  # another receiver's table is not this one's
    assert load_refiner(tmp_path).config.strength == FULL
    for damaged in ("{}", '{"strength": 3}', '{"strength": [[0.1, 2.0]]}', "no", "[]"):
        (tmp_path / FILE).write_text(damaged)
        with pytest.raises(ValueError, match=FILE):
            read_strength(tmp_path / FILE)


def test_the_measurement_finds_the_crossover(
    lpips: LPIPS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        for number in range(4):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
            coarse.resize((384, 384)).save(tmp_path / place / f"{number}.png")
    sources = [FolderSource(tmp_path / place) for place in ("one", "two")]
    photographs = choose_photographs(sources, 5, seed=1)
    assert len(photographs) == 5
    assert sum(name.startswith("0/") for name in photographs.names) == 3
    config = CompactConfig(
        rate_channels=(4, 32), widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)
    )
    refiner = make_refiner()

    def refine(initial: Tensor, received: Received, generator: object = None) -> Reconstruction:
        """Repair what the low rate gave, spoil what the high one did."""
        del generator
        noise = torch.rand_like(initial)
        if received.rate < 0.02:
            return Reconstruction(initial, initial=noise)
        return Reconstruction(noise, initial)

    monkeypatch.setattr(refiner, "refine", refine)
    scheme = Scheme(CompactJSCC(config).eval(), Fraction(1, 128), refiner)
    found = measure_benefit(scheme, photographs, lpips, [3.0, 9.0], seed=0)
    assert [one.helps for one in sorted(found, key=lambda p: p.bits)] == [True, True, False, False]
    for one in found:
        assert one.photographs == 5
        assert one.net == pytest.approx(one.repaired - one.broken)
        assert (one.worse > 0.9) != one.helps
    ((full, one_), (none, zero)) = strength_of(found)
    assert (one_, zero) == (1.0, 0.0)
    assert full < none
    figure = benefit_figure(found, strength_of(found))
    assert len(figure.axes) == 2
    assert "R = 1/128" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_too_few_photographs_and_schemes_without_a_receiver(lpips: LPIPS, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    source = FolderSource(tmp_path)
    codec = CompactJSCC(CompactConfig()).eval()
    with pytest.raises(ValueError, match="no diffusion receiver"):
        measure_benefit(Scheme(codec, "1/128"), source, lpips, [1.0])
    with pytest.raises(ValueError, match="too few"):
        measure_benefit(Scheme(codec, "1/128", make_refiner()), source, lpips, [1.0])


def test_points_are_kept_as_plain_data(tmp_path: Path) -> None:
    save_benefit(FULL, [{"rate": "1/16", "snr_db": 1.0, "net": 1 / 3}], tmp_path / FILE)
    values = json.loads((tmp_path / FILE).read_text())
    assert values["points"] == [{"rate": "1/16", "snr_db": 1.0, "net": 0.333333}]


def test_the_bundled_receiver_follows_its_table() -> None:
    refiner = DiffJSCC.from_pretrained("compact", device="cpu").refiner
    assert isinstance(refiner, ControlledDiffusion)
    config = refiner.config
    points = json.loads((BUNDLED / "compact" / FILE).read_text())["points"]
    found = [Benefit(**point) for point in points]
    for own, measured in zip(config.strength, strength_of(found), strict=True):
        assert own == pytest.approx(measured, rel=1e-4)
    for one in found:
        assert (config.start_level(one.bits) > 0) == one.helps

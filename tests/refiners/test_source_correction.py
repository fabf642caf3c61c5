"""Iterative source error correction: its estimate, lost symbols, priors, and its way in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from diffjscc import AWGN, Rayleigh, Scheme, psnr
from diffjscc.channels import Erasures
from diffjscc.cli import app
from diffjscc.configuration import check
from diffjscc.pretrained.networks import DENOISER, Network, save_network
from diffjscc.protocols import Channel
from diffjscc.refiners.bias_free import BiasFreeDenoiser
from diffjscc.refiners.ddnm import DDNM
from diffjscc.refiners.prior_denoiser import PriorDenoiser
from diffjscc.refiners.source_correction import CorrectionConfig, SourceErrorCorrection
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.loader import SchemeLoader
from toy_codec import RATE, Pixels, smooth_images
from toy_refiner import make_unet, make_vae


def refined(channel: Channel, correction: SourceErrorCorrection, images: Tensor) -> Tensor:
    scheme = Scheme(Pixels(), RATE, correction)
    return psnr(scheme(images, channel, torch.Generator().manual_seed(1)).image, images)


@pytest.mark.parametrize("channel", [AWGN(2.0), Rayleigh(2.0), Erasures(2.0, 0.5, 8)])
def test_estimate_weighs_what_was_received_and_what_is_likely(channel: Channel) -> None:
    images = smooth_images()
    received = Scheme(Pixels(), RATE).send(images, channel, torch.Generator().manual_seed(2))
    correction = SourceErrorCorrection(Pixels(), None, CorrectionConfig(prior_power=0.25))
    corrected = correction.corrected(images, received)
    sent = Pixels().encode(images, received.state, RATE).values
    noise = received.state.noise_power[:, None] / received.state.gain.abs().square()
    finite = noise.clamp(max=1e6)
    estimate = (0.25 * received.equalised + finite * sent) / (0.25 + finite)
    torch.testing.assert_close(corrected.equalised, estimate, rtol=1e-3, atol=1e-4)
    left = (0.25 * finite / (0.25 + finite)).mean(1)
    found = corrected.state.noise_power / corrected.state.gain[:, 0].abs().square()
    torch.testing.assert_close(found, left, rtol=1e-3, atol=1e-6)


def test_lost_symbols_are_filled_in() -> None:
    images = smooth_images()
    exact = SourceErrorCorrection(Pixels(), lambda _: images, CorrectionConfig(prior_power=1.0))
    received = Scheme(Pixels(), RATE).send(images, Erasures(40.0, 0.5, 8), torch.Generator())
    lost = received.state.gain == 0
    assert lost.any()
    filled = exact.corrected(Pixels().decode(received), received)
    sent = Pixels().encode(images, received.state, RATE).values
    torch.testing.assert_close(filled.equalised[lost], sent[lost])


def test_a_better_prior_gives_a_better_image() -> None:
    images = smooth_images()

    def halfway(decoded: Tensor) -> Tensor:
        return (decoded + images) / 2

    plain = refined(AWGN(-3.0), SourceErrorCorrection(Pixels(), None, CorrectionConfig(0)), images)
    means = [
        refined(AWGN(-3.0), SourceErrorCorrection(Pixels(), prior, CorrectionConfig(1)), images)
        for prior in (halfway, lambda _: images)
    ]
    assert (plain + 1 < means[0]).all()
    assert (means[0] + 1 < means[1]).all()
    weak = SourceErrorCorrection(Pixels(), halfway, CorrectionConfig(1, strength=0.2))
    assert (refined(AWGN(-3.0), weak, images) < means[0]).all()


def test_no_iteration_and_no_prior_change_nothing() -> None:
    images = smooth_images()
    scheme = Scheme(Pixels(), RATE, SourceErrorCorrection(Pixels(), None, CorrectionConfig(0)))
    result = scheme(images, AWGN(3.0), torch.Generator())
    assert torch.equal(result.image, result.initial)


@pytest.mark.parametrize("size", [(32, 32), (13, 21)])
def test_score_of_a_prior_moves_images(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ddnm = DDNM(make_vae(), make_unet())
    images = smooth_images()[..., : size[0], : size[1]]
    moved = [PriorDenoiser(ddnm, level)(images) for level in (0.02, 0.5)]
    assert all(one.shape == images.shape for one in moved)
    changes = [(one - images).square().mean() for one in moved]
    assert 0 < changes[0] < changes[1]
    with pytest.raises(ValueError, match="level is 1"):
        PriorDenoiser(ddnm, 1.0)


def test_settings_out_of_range_are_refused() -> None:
    wrong = {"iterations": -1, "prior_power": 0.0, "strength": 1.5}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=name):
            CorrectionConfig(**{name: value})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=name):
            check(SchemeConfig, {"kind": "isec", "correction": {name: value}}, "scheme")
    with pytest.raises(ValueError, match="correction is for isec"):
        check(SchemeConfig, {"kind": "deepjscc", "correction": {"iterations": 2}}, "scheme")


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    pixels = (255 * smooth_images(1, 64)[0].permute(1, 2, 0)).byte().numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def denoiser(tmp_path: Path) -> Path:
    folder = tmp_path / "denoiser-weights"
    folder.mkdir()
    torch.manual_seed(0)
    network = BiasFreeDenoiser(widths=(8, 8))
    save_network(Network(DENOISER, network), folder, torch.float32)
    return folder


def test_sweeps_name_it(denoiser: Path) -> None:
    loader = SchemeLoader("cpu")
    with_prior = loader.at(check(SchemeConfig, {"kind": "isec"}, "scheme"), "1/64")
    trained = {"kind": "isec", "correction": {"denoiser": str(denoiser), "iterations": 3}}
    with_denoiser = loader.at(check(SchemeConfig, trained, "scheme"), "1/64")
    assert isinstance(with_prior.refiner, SourceErrorCorrection)
    assert isinstance(with_prior.refiner.prior, PriorDenoiser)
    assert isinstance(with_denoiser.refiner, SourceErrorCorrection)
    assert with_denoiser.refiner.config.iterations == 3
    assert with_denoiser.codec is with_prior.codec
    assert with_denoiser.provenance != with_prior.provenance
    assert "isec(denoiser-weights@" in with_denoiser.provenance


def test_transmit_takes_it(photograph: Path, denoiser: Path, tmp_path: Path) -> None:
    def transmit(*words: str) -> tuple[int, str]:
        output = ("-o", str(tmp_path / "sent"))
        result = CliRunner().invoke(app, ["transmit", str(photograph), *words, *output])
        return result.exit_code, f"{result.output}{result.stderr}{result.exception!r}"

    code, text = transmit("--refiner", "isec", "--denoiser", str(denoiser), "--corrections", "2")
    assert code == 0, text
    assert (tmp_path / "sent" / "image-initial.png").exists()
    for words, said in (
        (("--denoiser", str(denoiser)), "--refiner isec"),
        (("--refiner", "isec", "--steps", "3"), "--steps"),
        (("--refiner", "isec", "--corrections", "-1"), "iterations"),
        (("--refiner", "isec", "--denoiser", str(tmp_path)), "train denoiser"),
        (("--scheme", "deepjscc", "--corrections", "2"), "--corrections"),
    ):
        code, text = transmit(*words)
        assert code == 2
        assert said in text

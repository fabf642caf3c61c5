"""Symbols on finite alphabets: points, power, gradients, and what they cost the bundled codec."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest
import torch

from diffjscc import (
    AWGN,
    BasicJSCC,
    BasicJSCCConfig,
    CompactJSCC,
    DiffJSCC,
    Scheme,
    load_image,
    psnr,
)
from diffjscc.choices import ConstellationName
from diffjscc.codecs.compact import CompactConfig
from diffjscc.codecs.constellations import Constellation
from diffjscc.pretrained.build import build_codec, describe_codec
from diffjscc.pretrained.codec import save_codec
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.loader import SchemeLoader
from diffjscc.schemes.rates import check_rates
from diffjscc.training.codecs import start_from
from locations import ROOT

NAMES = get_args(ConstellationName)
SIZES = {"bpsk": 2, "qpsk": 4, "8-psk": 8, "16-psk": 16, "16-qam": 16, "64-qam": 64, "256-qam": 256}
PHOTOGRAPH = ROOT / "tests" / "photographs" / "astronaut.webp"


def normal(images: int = 3, symbols: int = 4000) -> torch.Tensor:
    values = torch.randn(
        images, symbols, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)
    )
    return values / values.abs().square().mean(1, keepdim=True).sqrt()


@pytest.mark.parametrize("name", NAMES)
def test_symbols_are_the_nearest_points_and_keep_their_power(name: ConstellationName) -> None:
    alphabet, values = Constellation(name), normal()
    assert len(alphabet.points) == SIZES[name]
    assert float(alphabet.points.abs().square().mean()) == pytest.approx(1, abs=1e-5)
    hard = alphabet.hard(values)
    distances = (values[..., None] - alphabet.points).abs()
    own = (values - hard).abs()
    torch.testing.assert_close(own, distances.amin(-1), atol=1e-5, rtol=0)
    sent = alphabet(values)
    torch.testing.assert_close(sent.abs().square().mean(1), torch.ones(3))
    # One factor for each image: as many different symbols as there are points.
    for row in sent:
        places = torch.view_as_real(row).mul(1e4).round().unique(dim=0)
        assert len(places) <= SIZES[name]


def test_more_points_keep_more_of_normal_symbols() -> None:
    values = normal()

    def correlation(name: ConstellationName) -> float:
        return float((Constellation(name)(values) * values.conj()).real.mean())

    kept = [correlation(name) for name in ("bpsk", "qpsk", "16-qam", "64-qam", "256-qam")]
    assert kept == sorted(kept)
    assert kept[0] == pytest.approx(math.sqrt(1 / math.pi), abs=0.01)  # E|x| of a real part
    assert kept[1] == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)
    assert correlation("8-psk") < correlation("16-psk") < kept[2]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_soft_points(name: ConstellationName) -> None:
    alphabet = Constellation(name)
    values = normal(1, 64).requires_grad_()
    sent = alphabet(values)
    assert torch.equal(sent.detach(), alphabet(values.detach()))
    (sent * torch.linspace(-1, 1, 64)).real.sum().backward()
    assert values.grad is not None
    assert torch.isfinite(torch.view_as_real(values.grad)).all()
    assert float(values.grad.abs().sum()) > 0
    # Midway between two points the soft symbol lies between them.
    two = alphabet.points[:2]
    middle = alphabet.soft(two.mean()[None, None])
    torch.testing.assert_close(middle[0, 0], two.mean(), atol=0.2, rtol=0)


def test_rare_large_symbols_are_not_clipped() -> None:
    values = normal() ** 3
    values = values / values.abs().square().mean(1, keepdim=True).sqrt()
    alphabet = Constellation("256-qam")
    assert float(alphabet.scales(values).max()) < float(alphabet.scales(normal()).min())

    def kept(quantised: torch.Tensor) -> float:
        power = quantised.abs().square().mean().sqrt()
        return float((quantised * values.conj()).real.mean() / power)

    assert kept(alphabet(values)) > kept(alphabet.hard(values)) + 0.01


def test_a_codec_says_its_constellation_and_other_names_are_refused() -> None:
    codec = CompactJSCC(CompactConfig(widths=(8, 8), constellation="16-qam"))
    description = describe_codec(codec)
    assert description["constellation"] == "16-qam"
    assert describe_codec(build_codec(description)) == description
    with pytest.raises(ValueError, match="'12-qam'; it must be one of bpsk, qpsk"):
        Constellation("12-qam")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="constellation"):
        build_codec({"class": "DeepJSCC", "constellation": "9-psk"})


def test_the_bundled_codec_without_retraining_loses_little_on_256_qam() -> None:
    image = load_image(PHOTOGRAPH)[None, :, :256, :256]
    scheme = DiffJSCC.from_pretrained("compact", "1/16", refiner=None, device="cpu")

    def quality(name: ConstellationName | None) -> float:
        codec = DiffJSCC.from_pretrained("compact", refiner=None, device="cpu").codec
        assert isinstance(codec, CompactJSCC)
        codec.config = replace(codec.config, constellation=name)
        with torch.no_grad():
            result = Scheme(codec, scheme.rate)(
                image, AWGN(10.0), generator=torch.Generator().manual_seed(0)
            )
        return float(psnr(result.image, image))

    plain, fine, coarse, one_bit = map(quality, (None, "256-qam", "qpsk", "bpsk"))
    assert plain - 1.2 < fine < plain + 0.05
    assert max(coarse, one_bit) < fine - 3  # what it takes for amplitudes is noise


def test_a_scheme_names_its_constellation() -> None:
    config = SchemeConfig(kind="deepjscc", constellation="qpsk")
    assert config.name == "deepjscc, qpsk"
    loader = SchemeLoader("cpu")
    scheme = loader.at(config, "1/64")
    plain = loader.at(SchemeConfig(kind="deepjscc"), "1/64")
    assert scheme.provenance == f"{plain.provenance}, qpsk"
    image = load_image(PHOTOGRAPH)[None, :, :64, :64]
    csi = AWGN(10.0).sample_state(1).at_transmitter
    with torch.no_grad():
        values = scheme.codec.encode(image, csi, Fraction(1, 64)).values
        unchanged = plain.codec.encode(image, csi, Fraction(1, 64)).values
    torch.testing.assert_close(values.abs(), torch.ones_like(values.abs()))
    assert float(unchanged.abs().std()) > 0.1
    check_rates(config, ["1/64"])


def test_what_has_no_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="constellation is for neural codecs"):
        SchemeConfig(kind="jpeg-ldpc", constellation="qpsk")
    with pytest.raises(ValueError, match="codec other is for diffjscc"):
        SchemeConfig(kind="deepjscc", codec="other")


def test_training_on_a_constellation_wins_back_what_it_costs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    photograph = load_image(PHOTOGRAPH)[None]
    small = torch.nn.functional.interpolate(photograph, size=(96, 96), mode="area")
    tiles = torch.nn.functional.unfold(small, 16, stride=8).transpose(1, 2).reshape(-1, 3, 16, 16)
    plain = BasicJSCCConfig(channels=8, widths=(8, 16, 16, 16))

    def trained(codec: BasicJSCC, steps: int) -> BasicJSCC:
        optimiser = torch.optim.Adam(codec.train().parameters(), lr=3e-3)
        for step in range(steps):
            generator = torch.Generator().manual_seed(step)
            batch = tiles[torch.randperm(len(tiles), generator=generator)[:16]]
            received = Scheme(codec, codec.rates[0]).send(batch, AWGN(10.0), generator)
            optimiser.zero_grad()
            (codec.reconstruct(received) - batch).square().mean().backward()
            optimiser.step()
        return codec.eval()

    def error(codec: BasicJSCC) -> float:
        with torch.no_grad():
            noise = torch.Generator().manual_seed(7)
            result = Scheme(codec, codec.rates[0])(tiles, AWGN(10.0), generator=noise)
        return float((result.image - tiles).square().mean())

    codec = trained(BasicJSCC(plain), 150)
    save_codec(codec, tmp_path)
    quantised = BasicJSCC(replace(plain, constellation="qpsk"))
    start_from(quantised, str(tmp_path))
    before, unbounded = error(quantised.eval()), error(codec)
    assert unbounded < before
    after = error(trained(quantised, 80))
    assert after < before - 0.3 * (before - unbounded)

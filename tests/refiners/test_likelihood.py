"""Channel-likelihood guidance: the distance is that of the physics, and guidance reduces it."""

import warnings
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from diffjscc import AWGN, DiffJSCC, Rayleigh, Scheme, Symbols, psnr
from diffjscc.channels import Erasures
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.configuration import check
from diffjscc.protocols import Channel
from diffjscc.refiners.likelihood import (
    ChannelLikelihood,
    LikelihoodConfig,
    estimated_noise_power,
)
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.loader import SchemeLoader
from diffjscc.symbols import Received
from toy_codec import RATE, Pixels, smooth_images
from toy_refiner import generators, make_refiner

ON = LikelihoodConfig(scale=1.0)


@pytest.mark.parametrize("channel", [AWGN(3.0), Rayleigh(3.0), Erasures(3.0, 0.3, 8)])
def test_distance_of_the_sent_image_is_the_number_of_symbols_that_arrived(channel: Channel) -> None:
    sent, noise = smooth_images(1, 128), torch.Generator().manual_seed(1)
    received = Scheme(Pixels(), RATE).send(sent, channel, noise, repeats=8)
    likelihood = ChannelLikelihood(Pixels(), received, ON)
    arrived = (received.state.gain.abs() > 0).expand(8, received.channel_uses).sum(1)
    distance = likelihood.distance(sent.expand(8, -1, -1, -1))
    # |n|²/N0 is exponential: a sum of K has the deviation sqrt(K).
    assert ((distance - arrived) / arrived.sqrt()).abs().max() < 4
    assert (likelihood.distance(1 - sent.expand(8, -1, -1, -1)) > 2 * arrived).all()


def test_noise_power_is_estimated_without_the_csi() -> None:
    received = Scheme(Pixels(), RATE).send(
        smooth_images(3, 128),
        Rayleigh(torch.tensor([0.0, 6.0, 12.0])),
        torch.Generator().manual_seed(2),
    )
    true, found = received.state.noise_power, estimated_noise_power(received)
    spread = (2 * received.state.gain[:, 0].abs().square() * true + true**2) / received.channel_uses
    assert ((found - true).abs() < 4 * spread.sqrt()).all()
    wrong = replace(received, state=replace(received.state, mean_snr_db=torch.zeros(3)))
    blind = ChannelLikelihood(Pixels(), wrong, replace(ON, blind=True))
    torch.testing.assert_close(blind.noise_power, found)


def test_symbols_without_noise_have_a_positive_estimate() -> None:
    received = Scheme(Pixels(), RATE).send(smooth_images(), AWGN(90.0), torch.Generator())
    assert (estimated_noise_power(received) == 2 / received.channel_uses).all()


def test_improving_reduces_distance_and_error() -> None:
    sent = smooth_images()
    received = Scheme(Pixels(), RATE).send(sent, AWGN(20.0), torch.Generator().manual_seed(3))
    likelihood = ChannelLikelihood(Pixels(), received, ON)
    wrong = (
        sent + 0.05 * torch.randn(sent.shape, generator=torch.Generator().manual_seed(4))
    ).clamp(0, 1)
    better = likelihood.improve_images(wrong)
    least = likelihood.distance(sent)
    assert (likelihood.distance(better) - least < (likelihood.distance(wrong) - least) / 2).all()
    assert (psnr(better, sent) > psnr(wrong, sent) + 0.05).all()
    weak = ChannelLikelihood(Pixels(), received, replace(ON, scale=1e-4)).improve_images(wrong)
    assert (weak - wrong).square().mean() < (better - wrong).square().mean() / 1.5
    one = likelihood.select([1]).improve_images(wrong[1:])
    torch.testing.assert_close(one, better[1:], rtol=0, atol=1e-4)


def guided(scale: float, **config: object) -> tuple[Tensor, Received]:
    refiner = make_refiner(likelihood=LikelihoodConfig(scale=scale, **config))  # type: ignore[arg-type]
    scheme = Scheme(Pixels(), RATE, refiner)
    refiner.codec = scheme.codec
    received = scheme.send(smooth_images(), AWGN(15.0), torch.Generator().manual_seed(6))
    return scheme.decode(received, generators(0, 1)).image, received


def test_guided_sampling_explains_what_was_received() -> None:
    plain, received = guided(0.0)
    distance = ChannelLikelihood(Pixels(), received, ON).distance
    latents_only, _ = guided(1.0, final_iterations=0)
    both, _ = guided(1.0)
    assert (distance(latents_only) < distance(plain)).all()
    assert (distance(both) < distance(latents_only)).all()
    again, _ = guided(1.0)
    torch.testing.assert_close(again, both, rtol=0, atol=0)


def test_several_samples_are_guided_by_their_own_symbols() -> None:
    refiner = make_refiner(likelihood=ON)
    refiner.codec = Pixels()
    scheme = Scheme(refiner.codec, RATE, refiner)
    received = scheme.send(smooth_images(), AWGN(15.0), torch.Generator().manual_seed(6))
    initial = scheme.codec.decode(received)
    several = refiner.sample(initial, received, 2, generators(0, 1, 2, 3)).image
    alone = refiner.sample(initial[1:], received.select([1]), 2, generators(2, 3)).image
    torch.testing.assert_close(several[2:], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("geometry", ["reflect", "released"])
def test_any_size_is_guided(geometry: str) -> None:
    refiner = make_refiner(
        likelihood=replace(ON, iterations=1, final_iterations=1), geometry=geometry
    )
    refiner.codec = CompactJSCC(
        CompactConfig(widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    ).eval()
    scheme = Scheme(refiner.codec, "1/128", refiner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = scheme(smooth_images(1, 37)[..., :30], AWGN(5.0), torch.Generator().manual_seed(7))
    assert result.image.shape == (1, 3, 37, 30)


def test_what_cannot_guide_is_refused() -> None:
    class Rounding(Pixels):
        def encode(self, images: Tensor, csi: object, rate: Fraction) -> Symbols:
            return super().encode(images.detach(), csi, rate)

    refiner = make_refiner(likelihood=ON)
    scheme = Scheme(Rounding(), RATE, refiner)
    received = scheme.send(smooth_images(), AWGN(15.0), torch.Generator())
    with pytest.raises(ValueError, match=r"refiner\.codec = scheme\.codec"):
        scheme.decode(received, torch.Generator())
    refiner.codec = Rounding()
    with pytest.raises(ValueError, match="passes no gradient on"):
        scheme.decode(received, torch.Generator())
    longer = replace(received, values=received.values.repeat(1, 2))
    with pytest.raises(ValueError, match="256 were received"):
        ChannelLikelihood(Pixels(), longer, ON).distance(smooth_images())
    for wrong in (
        {"scale": -1.0},
        {"iterations": -1},
        {"final_iterations": 10_000},
        {"pixel_deviation": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong)).replace("_", ".")):
            LikelihoodConfig(**wrong)  # type: ignore[arg-type]


def test_weights_come_with_their_codec() -> None:
    scheme = DiffJSCC.from_pretrained("compact")
    assert scheme.refiner is not None
    assert scheme.refiner.codec is scheme.codec  # type: ignore[attr-defined]


def test_a_codec_of_other_weights_or_on_a_constellation_is_what_encodes() -> None:
    values = {"kind": "diffjscc", "constellation": "16-qam"}
    quantised = SchemeLoader("cpu").at(check(SchemeConfig, values, "scheme"), "1/64")
    assert quantised.refiner.codec is quantised.codec  # type: ignore[union-attr]
    values = {"kind": "diffjscc", "codec": "compact"}
    other = SchemeLoader("cpu").at(check(SchemeConfig, values, "scheme"), "1/64")
    assert other.refiner.codec is other.codec  # type: ignore[union-attr]

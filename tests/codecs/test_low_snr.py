"""Reception below the SNR of the training: bounded, and never worse than one mean colour."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from torch import Tensor

from diffjscc import AWGN, DiffJSCC, Rayleigh, Received, Reconstruction, Rician, Scheme, Symbols
from diffjscc.channels.noise import complex_normal
from diffjscc.codecs.compact import CompactJSCC
from diffjscc.codecs.deepjscc import DeepJSCC, DeepJSCCConfig
from diffjscc.codecs.joint import JointCodec
from diffjscc.codecs.low_snr import MEAN_COLOUR, bound_snr, equalise, shrink, signal_share
from diffjscc.codecs.pooled import PooledCodec
from diffjscc.codecs.swin import SwinJSCC, SwinJSCCConfig
from diffjscc.data.images import load_image
from diffjscc.metrics.fidelity import psnr
from diffjscc.protocols import Channel
from diffjscc.symbols import LOWEST_SNR_DB, ChannelState

FALLING = (-5.0, -7.0, -10.0, -14.0, -20.0, -30.0, -45.0, -100.0, -200.0)


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    path = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return load_image(path)[None, :, 80:400, 100:420]


@pytest.fixture
def codec() -> JointCodec:
    codec = DiffJSCC.from_pretrained("compact", device="cpu", refiner=None).codec
    assert isinstance(codec, JointCodec)
    return codec


def received_psnr(codec: JointCodec, rate: int, image: Tensor, snr_db: float) -> float:
    scheme, noise = Scheme(codec, codec.rates[rate]), torch.Generator().manual_seed(1)
    return float(psnr(scheme(image, AWGN(snr_db), noise).image, image))


@pytest.mark.parametrize("rate", range(4))
@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_quality_falls_to_that_of_one_colour(
    codec: JointCodec, rate: int, photograph: Tensor
) -> None:
    mean = torch.tensor(MEAN_COLOUR)[:, None, None].expand_as(photograph)
    floor = float(psnr(mean, photograph))
    levels = [received_psnr(codec, rate, photograph, snr_db) for snr_db in FALLING]
    for higher, lower in pairwise(levels):
        assert lower < higher + 0.05
    assert min(levels) > floor - 0.1
    assert levels[-1] == pytest.approx(floor, abs=0.05)


@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_unbounded_reception_is_worse_and_at_last_no_image(
    codec: JointCodec, photograph: Tensor
) -> None:
    bounded = received_psnr(codec, 0, photograph, -12.0)
    codec.bounded = False
    assert received_psnr(codec, 0, photograph, -12.0) < bounded - 1
    with pytest.raises(ValueError, match="CompactJSCC gave hold NaN"):
        received_psnr(codec, 0, photograph, -60.0)


@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_deep_fades_give_images(codec: JointCodec, photograph: Tensor) -> None:
    scheme = Scheme(codec, codec.rates[0])
    images = photograph[..., :64, :64].repeat(64, 1, 1, 1)
    result = scheme(images, Rayleigh(-20.0), torch.Generator().manual_seed(3))
    assert bool(torch.isfinite(result.image).all())


def test_within_the_training_nothing_changes(codec: JointCodec, photograph: Tensor) -> None:
    scheme = Scheme(codec, codec.rates[1])
    images = []
    for bounded in (True, False):
        codec.bounded = bounded
        noise = torch.Generator().manual_seed(2)
        images.append(scheme(photograph, AWGN(-5.0), noise).image)
    assert torch.equal(*images)


def test_symbols_get_the_power_of_the_lowest_snr() -> None:
    noise = torch.randn(
        3, 200_000, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)
    )
    snr_db = torch.tensor([-30.0, -8.0, 4.0])
    csi = ChannelState(torch.ones(3, 1, dtype=torch.complex64), snr_db)
    values = 1 + noise * csi.noise_power.sqrt()[:, None]
    scaled, bounded = bound_snr(values, csi, -5.0)
    power = scaled.abs().square().mean(dim=1)
    torch.testing.assert_close(bounded.snr_db, torch.tensor([-5.0, -5.0, 4.0]))
    torch.testing.assert_close(power, 1 + bounded.noise_power, rtol=0.01, atol=0)
    assert torch.equal(scaled[2], values[2])
    assert signal_share(snr_db, -5.0)[2] == 1


CHANNELS: dict[str, Callable[[float], Channel]] = {
    "awgn": AWGN,
    "rayleigh": Rayleigh,
    "rician": Rician,
    "known fades": lambda snr_db: Rayleigh(snr_db, transmitter_csi=True),
}


def small_codecs() -> dict[str, JointCodec]:
    """One of each kind, with the weights that it begins with."""
    torch.manual_seed(0)
    swin = SwinJSCCConfig(
        encoder_widths=(8, 8), encoder_depths=(1, 1), encoder_heads=(1, 1),
        decoder_widths=(8, 8), decoder_depths=(1, 1), decoder_heads=(1, 1),
    )  # fmt: skip
    cnn = DeepJSCCConfig(base_width=4, encoder_width=16, decoder_width=16)
    made = {
        "swin": SwinJSCC(swin),
        "swin, unequalised": SwinJSCC(replace(swin, receiver="unequalised")),
        "cnn": DeepJSCC(cnn),
        "cnn, gain": DeepJSCC(replace(cnn, csi="snr+gain")),
    }
    bundled = DiffJSCC.from_pretrained("compact", device="cpu", refiner=None).codec
    assert isinstance(bundled, JointCodec)
    return {name: codec.eval() for name, codec in made.items()} | {"compact": bundled}


def sent(codec: JointCodec, images: Tensor, state: ChannelState) -> Received:
    """What arrives of images over gains of the test's own, with noise."""
    symbols = Scheme(codec, codec.rates[0]).encode(images, state.mean_snr_db, state.gain)
    noise = complex_normal(tuple(symbols.values.shape), torch.Generator().manual_seed(1), "cpu")
    values = state.gain * symbols.values + state.noise_power.sqrt()[:, None] * noise
    return symbols.received(values, state)


@pytest.mark.parametrize("snr_db", [-200.0, -40.0, -13.0, 0.0, 200.0])
@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_every_codec_gives_images_over_every_channel(snr_db: float, photograph: Tensor) -> None:
    images = photograph[..., :64, :64].repeat(3, 1, 1, 1)
    mean = torch.tensor(MEAN_COLOUR)[:, None, None]
    for name, codec in small_codecs().items():
        for label, channel in CHANNELS.items():
            if name == "cnn, gain" and label != "known fades":
                continue
            scheme, noise = Scheme(codec, codec.rates[0]), torch.Generator().manual_seed(3)
            result = scheme(images, channel(snr_db), noise)
            assert bool(((result.image >= 0) & (result.image <= 1)).all()), (name, label)
            assert result.outage is not None
            assert bool((result.image == mean)[result.outage].all()), (name, label)
            assert bool(result.outage.all()) or snr_db > -40
            assert not bool(result.outage.all()) or snr_db < 0


@pytest.mark.parametrize("gain", [0.0, 1e-30, 1e-12, 1e-3, 1e6])
@pytest.mark.parametrize("snr_db", [-200.0, 0.0, 200.0])
@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_every_gain_gives_images(gain: float, snr_db: float, photograph: Tensor) -> None:
    images = photograph[..., :64, :64]
    for codec in small_codecs().values():
        state = ChannelState(torch.full((1, 1), gain * 1j), torch.tensor([snr_db]))
        received = sent(codec, images, replace(state, transmitter_csi=True))
        assert received.snr_db >= LOWEST_SNR_DB
        assert bool(torch.isfinite(torch.view_as_real(received.equalised)).all())
        result = Scheme(codec, codec.rates[0]).decode(received)
        assert bool(torch.isfinite(result.image).all())
        assert result.outage is not None
        assert bool(result.outage) or gain > 1e-6
        assert not bool(result.outage) or snr_db + 20 * torch.tensor(gain).log10() < -13


def test_without_a_gain_the_snr_is_the_lowest_and_symbols_are_zero() -> None:
    state = ChannelState(torch.zeros(1, 1, dtype=torch.complex64), torch.tensor([20.0]))
    received = Received(torch.ones(1, 4, dtype=torch.complex64), (16, 32), Fraction(1, 128), state)
    assert float(state.snr_db) == LOWEST_SNR_DB
    assert not received.equalised.any()


def test_gains_of_each_symbol_are_equalised_by_mmse() -> None:
    """The error has the power that the new SNR says, and symbols keep their amplitude."""
    generator = torch.Generator().manual_seed(1)
    values, gain, noise = (
        torch.randn(2, 400_000, dtype=torch.complex64, generator=generator) for _ in range(3)
    )
    state = ChannelState(gain, torch.tensor([-4.0, 9.0]))
    arriving = gain * values + state.noise_power.sqrt()[:, None] * noise
    received = Symbols(values, (1, 1), Fraction(1)).received(arriving, state)
    equalised, after = equalise(received)
    error = (equalised - values).abs().square().mean(dim=1)
    torch.testing.assert_close(error, 10 ** (-after.snr_db / 10), rtol=0.02, atol=0)
    assert after.gain.shape == (2, 1)
    assert torch.equal(after.mean_snr_db, state.mean_snr_db)  # which both ends know
    scale = (equalised * values.conj()).real.mean(dim=1)
    torch.testing.assert_close(scale, torch.ones(2), rtol=0.02, atol=0)
    torch.testing.assert_close(after.snr_db, received.snr_db)
    mean_power_db = state.mean_snr_db + 10 * torch.log10(gain.abs().square().mean(dim=1))
    assert bool((after.snr_db < mean_power_db).all())
    zero_forced = (received.equalised - values).abs().square().mean(dim=1)
    assert bool((zero_forced > 3 * error).all())


def test_gains_of_each_symbol_that_are_equal_are_one_gain() -> None:
    gain = torch.full((1, 1), 0.3 - 0.4j)
    one = Received(
        torch.randn(1, 50, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)),
        (16, 32),
        Fraction(1, 128),
        ChannelState(gain, torch.tensor([30.0])),
    )
    each = replace(one, state=replace(one.state, gain=gain.expand(1, 50)))
    values, state = equalise(each)
    torch.testing.assert_close(values, one.equalised)
    torch.testing.assert_close(state.snr_db, one.snr_db)


@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_faded_symbols_make_no_lattice(codec: JointCodec, photograph: Tensor) -> None:
    """Rayleigh fading of each symbol: MMSE against zero forcing."""
    uses = photograph.shape[-2] * photograph.shape[-1] // 128
    gain = complex_normal((1, uses), torch.Generator().manual_seed(2), "cpu")
    received = sent(codec, photograph, ChannelState(gain, torch.tensor([3.0])))
    level = float(psnr(codec.decode(received), photograph))
    codec.bounded = False
    assert level > float(psnr(codec.decode(received), photograph)) + 2
    assert level > 17


class Inventing:
    """A refiner that makes images of its own."""

    def refine(
        self, initial: Tensor, received: Received, generator: object = None
    ) -> Reconstruction:
        del received, generator
        return Reconstruction(torch.full_like(initial, 0.75), initial)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_what_was_lost_is_not_refined(codec: JointCodec, pooled: bool, photograph: Tensor) -> None:
    chosen = PooledCodec(codec) if pooled else codec
    scheme = Scheme(chosen, chosen.rates[-1], Inventing())
    images = photograph[..., :64, :64].repeat(3, 1, 1, 1)
    result = scheme(images, AWGN(torch.tensor([5.0, -30.0, -10.0])))
    assert result.outage is not None
    assert result.outage.tolist() == [False, True, False]
    assert bool((result.image[[0, 2]] == 0.75).all())
    assert torch.equal(result.image[1], result.initial[1])
    assert not bool(scheme(images, AWGN(-30.0)).image.eq(0.75).any())


def test_an_outage_is_where_the_image_has_no_weight() -> None:
    snr_db = torch.linspace(-30, 0, 301)
    for low, kind, least in ((-5.0, CompactJSCC, -16.6), (0.0, DeepJSCC, -23.0)):
        lost = signal_share(snr_db, low) <= kind.share_span[0]
        assert float(snr_db[lost].max()) == pytest.approx(least, abs=0.1)


def test_contrast_rises_within_the_span_of_shares() -> None:
    images, share = torch.ones(4, 3, 2, 2), torch.tensor([0.1, 0.2, 0.4, 0.45])
    contrast = (shrink(images, share, (0.1, 0.45)) - MEAN_COLOUR[0])[:, 0, 0, 0]
    assert contrast[0] == 0
    assert contrast[3] == 1 - MEAN_COLOUR[0]
    assert bool((contrast.diff() > 0).all())

"""CompactJSCC: its rates, its locality, its two ends."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffjscc import AWGN, Rayleigh, Scheme
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.layers import banding
from diffjscc.metrics.fidelity import psnr

SMALL = CompactConfig(widths=(16, 24), encoder_blocks=(1, 2), decoder_blocks=(2, 1))


def small_codec() -> CompactJSCC:
    """A small codec with all its paths open, which new ones keep closed."""
    torch.manual_seed(0)
    codec = CompactJSCC(SMALL).eval().requires_grad_(False)
    for parameter in codec.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape))
    return codec


def test_size_and_rates() -> None:
    codec = CompactJSCC(CompactConfig())
    assert sum(p.numel() for p in codec.parameters()) <= 6_100_000
    assert codec.rates == tuple(Fraction(1, n) for n in (128, 64, 32, 16))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(range(4)))
def test_true_rate_counts_the_padding(height: int, width: int, index: int) -> None:
    codec = small_codec()
    scheme = Scheme(codec, codec.rates[index])
    images = torch.rand(2, 3, height, width)
    symbols = scheme.encode(images, 3.0)
    cells = -(-height // 16) * -(-width // 16)
    assert symbols.channel_uses == codec.channels[index] // 2 * cells
    assert symbols.rate == symbols.channel_uses / (height * width) >= codec.rates[index]
    power = symbols.values.abs().square().mean(dim=1)
    torch.testing.assert_close(power, torch.ones(2), rtol=1e-5, atol=0)
    image = scheme(images, AWGN(3.0)).image
    assert image.shape == images.shape
    assert 0 <= image.min() <= image.max() <= 1


@pytest.mark.parametrize(
    ("rate", "size"), [(0, (752, 720)), (1, (752, 272)), (2, (272, 752)), (3, (752, 272))]
)
def test_bands_give_what_the_whole_image_gives(
    rate: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = CompactJSCC(CompactConfig()).eval().requires_grad_(False)
    torch.manual_seed(1)
    for parameter in codec.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape))
    images = torch.rand(1, 3, *size)
    scheme = Scheme(codec, codec.rates[rate])
    whole = scheme.send(images, AWGN(5.0), torch.Generator().manual_seed(0))
    image = codec.reconstruct(whole)
    monkeypatch.setattr(banding, "LARGEST_WHOLE", 0)
    monkeypatch.setattr(banding, "BAND", 160)
    tiled = scheme.send(images, AWGN(5.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(tiled.values, whole.values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(codec.reconstruct(whole), image, atol=1e-4, rtol=1e-4)
    assert not torch.equal(codec.reconstruct(whole), image)  # rounding: there were bands


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    codec = small_codec()
    scheme = Scheme(codec, codec.rates[1])
    images = torch.rand(3, 3, 40, 56)
    snr_db = torch.tensor([-5.0, 3.0, 15.0])
    seeds = [torch.Generator().manual_seed(n) for n in range(3)]
    together = scheme(images, AWGN(snr_db), seeds).image
    alone = scheme(images[1:2], AWGN(3.0), [torch.Generator().manual_seed(1)]).image
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_ends_work_apart() -> None:
    codec = small_codec()
    transmitter = CompactJSCC(SMALL, "transmitter").eval()
    receiver = CompactJSCC(SMALL, "receiver").eval()
    assert codec.encoder is not None
    assert codec.decoder is not None
    transmitter.encoder.load_state_dict(codec.encoder.state_dict())
    receiver.decoder.load_state_dict(codec.decoder.state_dict())
    images, rate = torch.rand(1, 3, 32, 48), codec.rates[0]
    symbols = Scheme(transmitter, rate).encode(images, 1.0)
    received = AWGN(1.0)(symbols, torch.Generator().manual_seed(0))
    expected = Scheme(codec, rate)(images, AWGN(1.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(Scheme(receiver, rate).decode(received).image, expected.image)
    with pytest.raises(ValueError, match="receiver only"):
        Scheme(receiver, rate).encode(images, 1.0)
    with pytest.raises(ValueError, match="transmitter only"):
        Scheme(transmitter, rate).decode(received)


def test_the_decoder_is_told_the_effective_snr_of_a_fade() -> None:
    """A fade of h at N0 equalises to AWGN at |h|²/N0: same noise, same image."""
    codec = small_codec()
    scheme = Scheme(codec, codec.rates[0])
    images = torch.rand(1, 3, 32, 32)
    faded = scheme.send(
        images, Rayleigh(6.0, transmitter_csi=True), torch.Generator().manual_seed(5)
    )
    equal = AWGN(faded.snr_db)(
        scheme.encode(images, faded.snr_db), torch.Generator().manual_seed(6)
    )
    flat = type(equal)(faded.equalised, equal.image_size, equal.nominal_rate, equal.state)
    torch.testing.assert_close(codec.decode(faded), codec.decode(flat), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(8, 8), r"shape \[B, 3, H, W\]"),
        (torch.rand(1, 1, 8, 8), r"shape \[B, 3, H, W\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "floating point"),
        (255 * torch.rand(1, 3, 8, 8), r"range from .* to 2.*divide 8-bit values by 255"),
        (torch.full((1, 3, 8, 8), torch.nan), "NaN"),
        (torch.rand(1, 3, 0, 8), "no side may be 0"),
    ],
)
def test_bad_images_are_refused(images: torch.Tensor, message: str) -> None:
    codec = small_codec()
    with pytest.raises(ValueError, match=message):
        Scheme(codec, codec.rates[0]).encode(images, 1.0)


def test_bad_symbols_and_rates_are_refused() -> None:
    codec = small_codec()
    scheme = Scheme(codec, codec.rates[0])
    received = scheme.send(torch.rand(1, 3, 32, 32), AWGN(1.0))
    received.values[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        scheme.decode(received)
    short = type(received)(received.values[:, 1:], (32, 32), codec.rates[0], received.state)
    with pytest.raises(ValueError, match="7 symbols received, but a 32x32 image"):
        scheme.decode(short)
    with pytest.raises(ValueError, match="rate 1/100 is not one of 1/128, 1/64, 1/32, 1/16"):
        Scheme(codec, Fraction(1, 100))


def test_an_snr_outside_the_trained_range_is_said() -> None:
    codec = small_codec()
    with pytest.warns(UserWarning, match="outside the -5 to 20 dB"):
        Scheme(codec, codec.rates[0]).encode(torch.rand(1, 3, 16, 16), -9.0)


def test_a_dozen_steps_of_training_beat_the_start() -> None:
    torch.manual_seed(0)
    codec = CompactJSCC(SMALL)
    scheme = Scheme(codec, codec.rates[-1])
    ramp = torch.linspace(0, 1, 64)
    images = torch.stack((ramp[:, None] * ramp, 1 - ramp[:, None] * ramp, ramp.expand(64, 64)))[
        None
    ]
    optimiser = torch.optim.Adam(codec.parameters(), 3e-3)
    levels = []
    for step in range(13):
        received = scheme.send(images, AWGN(10.0), torch.Generator().manual_seed(step))
        loss = (codec.reconstruct(received) - images).square().mean()
        levels.append(psnr(codec.decode(received).detach(), images).item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert levels[-1] > levels[0] + 3

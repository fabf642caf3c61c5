"""Rounds over a channel with feedback: power, counts, agreement of both ends, and effect."""

import warnings
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from diffjscc import AWGN, Scheme
from diffjscc.channels.erasures import Erasures
from diffjscc.channels.fading import Rayleigh
from diffjscc.channels.feedback import FeedbackLink
from diffjscc.codecs.allocation import allocate, water_filling
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.codecs.feedback import FeedbackJSCC
from diffjscc.codecs.feedback_layers import FeedbackConfig, complex_symbols, real_numbers
from diffjscc.protocols import Channel, FeedbackCodec
from diffjscc.rounds import joined, parted
from diffjscc.symbols import ChannelState, Received

SMALL = CompactConfig(
    rate_channels=(4, 8), widths=(8, 8), encoder_blocks=(0, 0), decoder_blocks=(0, 0)
)
TOTAL = Fraction(1, 64)


@pytest.fixture(scope="module")
def codec() -> FeedbackJSCC:
    """A linear codec, the block DCT, and rounds whose networks are as they begin."""
    torch.manual_seed(0)
    layers = FeedbackConfig(rounds=2, functions=48, widths=(8, 8), blocks=(1, 1))
    return FeedbackJSCC(layers, CompactJSCC(SMALL)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Smooth noise whose lower half is flat."""
    noise = torch.rand(3, 3, 8, 10, generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(noise, size=(100, 140), mode="bilinear")
    large[..., 50:, :] = large[..., 50:, :].mean(dim=(2, 3), keepdim=True)
    return large


def generators(number: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(number)]


def errors(codec: FeedbackJSCC, received: Received, images: Tensor) -> list[float]:
    """MSE after each round."""
    decoded = codec.estimates(received)
    return [(one - images).square().mean().item() for one in decoded]


def test_water_filling_spends_all_power_where_it_helps_most() -> None:
    variances = torch.tensor([[4.0, 1.0, 1.0, 1e-6]])
    powers = water_filling(variances, torch.tensor([10.0]))
    assert powers.mean().item() == pytest.approx(1)
    assert powers[0, 3] == 0

    def left(given: Tensor) -> float:
        return (variances / (1 + 10 * given)).sum().item()

    for change in ([0.1, -0.1, 0, 0], [-0.1, 0, 0.1, 0], [0, -0.1, 0, 0.1], [0, 0.1, -0.1, 0]):
        assert left(powers) < left(powers + torch.tensor([change]))


def test_the_largest_variances_are_sent_and_come_back_to_their_places() -> None:
    variances = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) + 0.1
    allocation = allocate(variances, 7, torch.tensor([1.0, 100.0]))
    taken = allocation.take(variances)
    assert (taken.diff(dim=1) <= 0).all()
    least = variances.flatten(1).sort(descending=True).values[:, 6]
    assert torch.equal(taken.min(dim=1).values, least)
    back = allocation.put(taken, torch.zeros_like(variances))
    assert torch.equal(back > 0, variances >= least[:, None, None, None])


def test_numbers_and_symbols_are_inverses_of_equal_power() -> None:
    numbers = torch.randn(2, 10)
    symbols = complex_symbols(numbers)
    assert torch.allclose(real_numbers(symbols), numbers)
    assert symbols.abs().square().mean().item() == pytest.approx(numbers.square().mean().item())


@pytest.mark.parametrize("size", [(96, 128), (100, 140), (17, 16)])
@pytest.mark.parametrize("rate", [TOTAL, Fraction(1, 32)])
def test_every_round_has_unit_power_and_every_symbol_counts(
    codec: FeedbackJSCC, size: tuple[int, int], rate: Fraction
) -> None:
    sent = []

    class Listening(AWGN):
        def __call__(self, symbols, generator=None, state=None):  # type: ignore[no-untyped-def]
            sent.append(symbols)
            return super().__call__(symbols, generator, state)

    photos = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    received = Scheme(codec, rate).send(photos, Listening(5), generators(2))
    assert len(sent) == codec.rounds == 3
    for symbols in sent:
        power = symbols.values.abs().square().mean(dim=1)
        assert power.tolist() == pytest.approx([1, 1], abs=1e-4)
    uses = [symbols.channel_uses for symbols in sent]
    assert uses == codec.uses(size, rate)
    assert received.channel_uses == sum(uses) == sum(received.uses_by_kind.values())
    blocks = -(-size[0] // 16) * -(-size[1] // 16)
    assert sum(uses) == blocks * 256 * rate
    assert received.uses_by_kind["image"] <= -(-rate * size[0] * size[1] // 1)
    assert received.feedback_uses == sum(uses[:-1])


def test_each_round_improves_on_the_last(codec: FeedbackJSCC, images: Tensor) -> None:
    for snr_db in (3.0, 13.0):
        sent = Scheme(codec, TOTAL).send(images, AWGN(snr_db), generators(3))
        after = errors(codec, sent, images)
        assert after[0] > after[1] > after[2]


def test_both_ends_agree_however_images_are_batched(codec: FeedbackJSCC, images: Tensor) -> None:
    scheme = Scheme(codec, TOTAL)
    received = scheme.send(images, AWGN(5), generators(6), repeats=2)
    alone = scheme.decode(received.select(slice(2, 3))).image
    assert torch.allclose(alone, scheme.decode(received).image[2:3], atol=1e-5)
    single = scheme.send(images[1:2], AWGN(5), generators(6)[2:3])
    assert torch.allclose(single.values, received.values[2:3], atol=1e-3)


def test_the_receiver_may_stop_after_any_round(codec: FeedbackJSCC, images: Tensor) -> None:
    received = Scheme(codec, TOTAL).send(images, AWGN(5), generators(3))
    uses = codec.uses(received.image_size, TOTAL)
    after = codec.estimates(received)
    for number in (1, 2):
        first = joined(parted(received, uses)[:number])
        assert torch.equal(codec.decode(first), after[number - 1])
    with pytest.raises(ValueError, match=r"symbols received, but the rounds of a 140x100 image"):
        codec.decode(joined([*parted(received, uses), parted(received, uses)[0]]))


def test_the_first_round_is_the_first_codec(codec: FeedbackJSCC, images: Tensor) -> None:
    padded = torch.nn.functional.pad(images, (0, 4, 0, 12), "reflect")
    received = Scheme(codec, TOTAL).send(images, AWGN(5), generators(3))
    alone = Scheme(codec.first, TOTAL / 2).send(padded, AWGN(5), generators(3))
    assert torch.equal(received.values[:, : alone.channel_uses], alone.values)


def test_block_fading_keeps_its_gain_over_all_rounds(codec: FeedbackJSCC, images: Tensor) -> None:
    received = Scheme(codec, TOTAL).send(images, Rayleigh(10), generators(3))
    assert received.state.gain.shape == (3, 1)
    assert torch.isfinite(codec.decode(received)).all()


def test_packets_of_each_round_are_lost_by_themselves(codec: FeedbackJSCC, images: Tensor) -> None:
    channel = Erasures(10, probability=0.5, packet=4)
    received = Scheme(codec, TOTAL).send(images, channel, generators(3))
    second, third = (one.state.gain for one in parted(received, codec.uses((100, 140), TOTAL))[1:])
    assert not torch.equal(second[:, : third.shape[1]], third[:, : second.shape[1]])
    assert torch.isfinite(codec.decode(received)).all()


@pytest.mark.parametrize("channel", [AWGN(-60), AWGN(60), Erasures(5, probability=1.0)])
def test_links_that_carry_nothing_or_everything(
    codec: FeedbackJSCC, images: Tensor, channel: Channel
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SNR is outside that of any training
        result = Scheme(codec, TOTAL)(images, channel, generators(3))
    assert torch.isfinite(result.image).all()
    assert result.outage is not None
    assert result.outage.all().item() == (channel != AWGN(60))


def test_feedback_noise_has_the_power_that_is_asked_for() -> None:
    values = 3 * torch.randn(4, 20_000, dtype=torch.complex64)
    state = ChannelState(torch.ones(4, 1, dtype=torch.complex64), torch.zeros(4))
    received = Received(values, (100, 200), TOTAL, state)
    assert FeedbackLink()(received) is received
    noise = FeedbackLink(7.0)(received, generators(4)).values - values
    snr = values.abs().square().mean(dim=1) / noise.abs().square().mean(dim=1)
    assert (10 * snr.log10()).tolist() == pytest.approx([7] * 4, abs=0.15)
    with pytest.raises(ValueError, match="between -200 and 200"):
        FeedbackLink(300.0)


def test_noise_on_the_link_back_costs_quality(codec: FeedbackJSCC, images: Tensor) -> None:
    last = []
    for snr_db in (None, 20.0, -10.0):
        other = codec.over(FeedbackLink(snr_db), "everything")
        sent = Scheme(other, TOTAL).send(images, AWGN(5), generators(3))
        last.append(errors(other, sent, images)[-1])
    assert last[2] > 1.05 * max(last[:2])
    assert codec.link == FeedbackLink()  # `over` leaves the codec as it was
    assert codec.resend == "uncertain"


def test_it_is_a_codec_with_feedback_and_others_are_not(codec: FeedbackJSCC) -> None:
    assert isinstance(codec, FeedbackCodec)
    assert not isinstance(codec.first, FeedbackCodec)
    with pytest.raises(ValueError, match="load both ends"):
        FeedbackJSCC(codec.config, CompactJSCC(SMALL, "transmitter"))
    with pytest.raises(ValueError, match="rate 1/128 is not one of 1/64, 1/32"):
        Scheme(codec, "1/128")

"""Packet erasures: how much is lost, what arrives, and what codecs and digital links make of it."""

from fractions import Fraction
from typing import Any

import pytest
import torch

from diffjscc import AWGN, DiffJSCC, Scheme, Symbols, psnr
from diffjscc.channels import Erasures
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.loader import SchemeLoader


def symbols(batch: int = 4, uses: int = 6400) -> Symbols:
    values = torch.randn(
        batch, uses, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)
    )
    values = values / values.abs().square().mean(1, keepdim=True).sqrt()
    return Symbols(values, (64, uses // 64), Fraction(1))


def gradient_image(side: int = 64) -> torch.Tensor:
    ramp = torch.linspace(0, 1, side)
    return torch.stack(
        (ramp.expand(side, side), ramp[:, None].expand(side, side), 1 - ramp.expand(side, side))
    )[None]


def test_packets_are_lost_whole_and_as_often_as_said() -> None:
    sent = symbols(batch=40)
    received = Erasures(10.0, probability=0.2, packet=64)(sent, torch.Generator().manual_seed(2))
    lost = received.state.gain == 0
    assert torch.equal(received.values[lost], torch.zeros_like(received.values[lost]))
    assert (lost.sum(1) % 64 == 0).all()
    # 4,000 packets: the standard deviation of their share is 0.0063.
    assert lost.float().mean() == pytest.approx(0.2, abs=0.025)
    assert len({int(number) for number in lost.sum(1)}) > 3  # each image has losses of its own
    noise = (received.values - sent.values)[~lost]
    assert noise.abs().square().mean() == pytest.approx(0.1, rel=0.02)
    # A lost packet is missed all over the image.
    places = lost[0].nonzero()[:, 0].float()
    assert places.mean() == pytest.approx(3200, rel=0.1)


def test_the_effective_snr_counts_what_is_lost() -> None:
    received = Erasures(10.0, probability=0.5, packet=1)(
        symbols(), torch.Generator().manual_seed(3)
    )
    share = (received.state.gain != 0).float().mean(1)
    weight = share * 10 / 11
    expected = 10 * torch.log10(weight / (1 - weight))
    assert torch.allclose(received.snr_db, expected, atol=1e-3)
    nothing = Erasures(10.0, probability=0.0)(symbols(), torch.Generator().manual_seed(3))
    assert torch.allclose(nothing.snr_db, torch.full((4,), 10.0), atol=1e-4)


def test_a_state_gives_the_same_losses_for_any_batch() -> None:
    channel, sent = Erasures(30.0, 0.3), symbols()
    generators = [torch.Generator().manual_seed(i) for i in range(4)]
    state = channel.sample_state(4, generators)
    whole = channel(sent, generators, state).state.gain
    part = channel(
        Symbols(sent.values[2:], sent.image_size, sent.nominal_rate),
        None,
        state.select(slice(2, 4)),
    )
    assert torch.equal(whole[2:], part.state.gain)
    alone = channel.sample_state(1, [torch.Generator().manual_seed(3)])
    assert torch.equal(alone.seeds, state.seeds[3:])
    with pytest.raises(ValueError, match="another channel"):
        channel(sent, None, AWGN(1.0).sample_state(4))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"probability": 1.5}, "probability is 1.5"),
        ({"probability": float("nan")}, "probability"),
        ({"packet": 0}, "packet is 0"),
        ({"packet": True}, "packet is True"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Erasures(1.0, **settings)


def test_a_codec_loses_quality_step_by_step_and_says_when_nothing_came() -> None:
    scheme = DiffJSCC.from_pretrained("compact", rate="1/16")
    codec, image = Scheme(scheme.codec, "1/16"), gradient_image()
    quality = []
    for probability in (0.0, 0.1, 0.4, 0.8):
        channel = Erasures(10.0, probability, packet=8)
        generators = [torch.Generator().manual_seed(i) for i in range(6)]
        images = codec(image.expand(6, -1, -1, -1), channel, generators).image
        quality.append(float(psnr(images, image.expand(6, -1, -1, -1)).mean()))
    assert quality == sorted(quality, reverse=True)
    assert quality[0] - quality[1] < 4
    assert quality[0] - quality[3] > 4
    gone = codec(image, Erasures(10.0, 1.0), torch.Generator().manual_seed(0))
    assert gone.outage is not None
    assert bool(gone.outage.all())


def test_a_digital_link_survives_what_its_code_can_bear() -> None:
    scheme = SchemeLoader("cpu").at(SchemeConfig(kind="jpeg-ldpc"), "1/2")
    image = gradient_image(128)
    outages = []
    for probability in (0.0, 0.9):
        channel = Erasures(12.0, probability, packet=16)
        result = scheme(image, channel, torch.Generator().manual_seed(1))
        assert result.outage is not None
        outages.append(bool(result.outage.all()))
    assert outages == [False, True]


def test_the_channel_by_its_name_and_settings() -> None:
    config = ChannelConfig(name="erasures", erasures={"probability": 0.25, "packet": 32})  # type: ignore[arg-type]
    assert config.at(3.0) == Erasures(3.0, 0.25, 32)
    assert config.label == "erasures, 0.25 of packets of 32"
    with pytest.raises(ValueError, match="has no effect on awgn"):
        ChannelConfig(erasures={"probability": 0.25})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="transmitter_csi is for fading channels"):
        ChannelConfig(name="erasures", transmitter_csi=True)

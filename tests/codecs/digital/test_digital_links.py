"""Digital links end to end: the cliff, what is counted, what an outage delivers, refusals."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffjscc.channels.awgn import AWGN
from diffjscc.channels.fading import Rayleigh
from diffjscc.codecs.digital.capacity import capacity_bits
from diffjscc.codecs.digital.frame import Frame
from diffjscc.codecs.digital.mcs import ALL, MCS, thresholds_db
from diffjscc.codecs.digital.separate import SeparateCodec
from diffjscc.codecs.digital.source_codecs import hevc
from diffjscc.codecs.digital.source_codecs.pillow import JPEG, JPEG2000
from diffjscc.codecs.digital.source_codecs.source import SourceUnavailable
from diffjscc.codecs.low_snr import MEAN_COLOUR
from diffjscc.configuration import check
from diffjscc.data.images import load_image, quantise
from diffjscc.metrics.fidelity import psnr
from diffjscc.protocols import DetectingCodec, InfeasibleError
from diffjscc.scheme import Scheme
from diffjscc.schemes.digital import digital_scheme
from diffjscc.schemes.digital_options import DigitalOptions
from diffjscc.symbols import Received, Symbols
from locations import PHOTOGRAPHS

RATE = Fraction(1, 4)
SOME = ["bpsk 1/2", "bpsk 2/3", "qpsk 3/4", "16-qam 1/2", "64-qam 3/4", "256-qam 5/6"]


@pytest.fixture(scope="module")
def crop() -> Tensor:
    """A part of a photograph, [1, 3, 96, 128]."""
    return load_image(PHOTOGRAPHS / "chelsea.webp")[None, :, 100:196, 100:228]


def link(mcs: str | None = None, rate: Fraction = RATE, **changes: object) -> Scheme:
    return digital_scheme(
        "jpeg2000-ldpc", rate, check(DigitalOptions, {"mcs": mcs} | changes, "test")
    )


def outages(scheme: Scheme, received: Received) -> list[bool]:
    outage = scheme.decode(received).outage
    assert outage is not None
    assert outage.dtype == torch.bool
    return outage.tolist()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", SOME)
def test_the_cliff(name: str, crop: Tensor) -> None:
    """Just above the threshold every bit arrives, a little below none is of use."""
    uses = 4 * 1944 // ALL[name].modulation.bits_per_symbol  # four codewords, not shortened
    scheme, threshold_db = link(name, Fraction(uses, 96 * 128)), thresholds_db()[name]
    above = scheme.send(crop, AWGN(threshold_db + 0.25), generator(), 10)
    result = scheme.decode(above)
    assert not any(outages(scheme, above))
    frame = Frame(ALL[name], above.channel_uses)
    source = JPEG2000()
    data = source.finest(crop[0], 8 * frame.data_bytes)
    assert data is not None
    assert torch.equal(result.image, source.decode(data, (96, 128)).expand(10, -1, -1, -1))
    below = scheme.send(crop, AWGN(threshold_db - 2), generator(), 10)
    assert all(outages(scheme, below))
    lost = scheme.decode(below).image
    assert torch.equal(lost, torch.tensor(MEAN_COLOUR)[:, None, None].expand_as(lost))


def test_the_link_adapts_to_the_snr(crop: Tensor) -> None:
    scheme, levels = link(), []
    for snr_db in (0.0, 5.0, 10.0, 15.0, 20.0, 26.0):
        result = scheme(crop, AWGN(snr_db), generator())
        assert result.outage is not None
        assert not result.outage.any()
        levels.append(psnr(quantise(result.image), crop).item())
    steps = [after - before for before, after in pairwise(levels)]
    assert min(steps) > 0.7
    mixed = AWGN(torch.tensor([0.0, 10.0, 26.0]))  # an MCS for each image of a batch
    result = scheme(crop.expand(3, -1, -1, -1), mixed, generator())
    found = psnr(quantise(result.image), crop.expand(3, -1, -1, -1)).tolist()
    assert found == pytest.approx([levels[0], levels[2], levels[5]], abs=1e-3)


def test_every_channel_use_is_counted(crop: Tensor) -> None:
    for mcs, rate in (("bpsk 1/2", "1/4"), ("qpsk 5/6", "1/8"), ("64-qam 2/3", "1/7")):
        symbols = link(mcs, Fraction(rate)).encode(crop, 30.0)
        uses = math.ceil(Fraction(rate) * 96 * 128)
        assert symbols.channel_uses == uses == sum(symbols.uses_by_kind.values())
        assert symbols.rate == pytest.approx(float(Fraction(rate)), rel=1e-3)
        kinds = symbols.uses_by_kind
        code = ALL[mcs].code
        codewords = Frame(ALL[mcs], uses).framing.codewords
        parity = codewords * (1944 - code.k) / ALL[mcs].modulation.bits_per_symbol
        assert kinds["parity"] == pytest.approx(parity, abs=1)
        coded = (kinds["payload"] + kinds["crc"]) / (uses - kinds["repetition"])
        assert coded <= float(code.code_rate)  # shortening never makes a code better than it is


def test_the_rate_follows_from_a_fixed_quality(crop: Tensor) -> None:
    spent = []
    for quality in (40, 60, 80):
        scheme = link("bpsk 2/3", Fraction(2), quality=quality)
        symbols = scheme.encode(crop, 3.0)
        bits = 8 * len(JPEG2000().encode(crop[0], quality))
        codewords = math.ceil((bits + 24) / 1296)
        assert symbols.channel_uses == bits + 24 + 648 * codewords
        assert not any(outages(scheme, AWGN(3.0)(symbols, generator())))
        spent.append(symbols.rate)
    assert spent[0] < spent[1] / 1.5 < spent[2] / 2.5
    with pytest.raises(
        InfeasibleError, match=r"quality 80 takes .* rate allows 96.*lower the quality"
    ):
        link("bpsk 2/3", Fraction(1, 128), quality=80).encode(crop, 3.0)
    both = torch.cat((crop, crop.flip(2).roll(40, 3) ** 2))
    with pytest.raises(ValueError, match="channel uses; send them one at a time"):
        link("bpsk 2/3", Fraction(2), quality=80).encode(both, 3.0)


def test_where_nothing_fits_that_is_said(crop: Tensor) -> None:
    with pytest.raises(InfeasibleError, match=r"at -7 dB; the most robust, bpsk 1/2, needs -1 dB"):
        link()(crop, AWGN(-7.0))
    with pytest.raises(InfeasibleError, match=r"carry less than a byte .* raise the rate"):
        link(rate=Fraction(1, 128))(crop, AWGN(1.0))
    message = r"jpeg takes [\d,]+ bits at its coarsest .* 768 channel uses of bpsk 2/3 carry"
    with pytest.raises(InfeasibleError, match=message):
        digital_scheme("jpeg-ldpc", Fraction(1, 16))(crop, AWGN(1.0))
    with pytest.raises(InfeasibleError, match="768 channel uses at 1 dB carry"):
        digital_scheme("jpeg-capacity", Fraction(1, 16))(crop, AWGN(1.0))
    smaller = digital_scheme("jpeg-capacity", Fraction(1, 10), DigitalOptions(downsample=True))
    whole = digital_scheme("jpeg-capacity", Fraction(1, 10))
    with pytest.raises(InfeasibleError, match="or send fewer pixels"):
        whole(crop, AWGN(1.0))
    assert psnr(quantise(smaller(crop, AWGN(1.0)).image), crop).item() > 20


def test_fades_are_outages_and_known_ones_are_used(crop: Tensor) -> None:
    blind = link()
    sent = blind.send(crop, Rayleigh(13.0), generator(), 60)
    lost = outages(blind, sent)
    thresholds = thresholds_db().values()
    needed = max(level for level in thresholds if level <= 13)
    expected = 1 - math.exp(-(10 ** ((needed - 13) / 10)))
    assert abs(sum(lost) / 60 - expected) < 4 * math.sqrt(expected * (1 - expected) / 60) + 0.05
    told = Rayleigh(13.0, transmitter_csi=True)
    adapting = link(rate=Fraction(1, 2))
    sent = adapting.send(crop.expand(30, -1, -1, -1), told, generator())
    result = adapting.decode(sent)
    assert result.outage is not None
    deep = sent.snr_db < min(thresholds)
    assert result.outage.tolist() == deep.tolist()
    levels = psnr(quantise(result.image), crop.expand(30, -1, -1, -1))
    order = sent.snr_db.argsort()
    ranked = [level for level in levels[order].tolist() if level > 20]
    assert ranked == sorted(ranked)
    assert ranked[-1] > ranked[0] + 5


def test_capacity_in_fading_is_the_information_outage(crop: Tensor) -> None:
    """P(log2(1 + |h|²/N0) < log2(1 + 1/N0)) = 1 - 1/e."""
    scheme = digital_scheme("jpeg2000-capacity", RATE)
    lost = torch.tensor(outages(scheme, scheme.send(crop, Rayleigh(5.0), generator(), 400)))
    assert lost.float().mean().item() == pytest.approx(1 - math.exp(-1), abs=0.08)
    told = scheme.send(crop, Rayleigh(5.0, transmitter_csi=True), generator(), 10)
    levels = psnr(quantise(scheme.decode(told).image), crop.expand(10, -1, -1, -1))
    ranked = levels[told.snr_db.argsort()]
    assert (ranked.diff() > -0.1).all()
    assert ranked[-1] > ranked[0] + 5


def test_capacity_delivers_what_fits_and_counts_all(crop: Tensor) -> None:
    scheme = digital_scheme("jpeg2000-capacity", RATE)
    symbols = scheme.encode(crop, 4.0)
    assert symbols.channel_uses == 96 * 128 // 4
    assert symbols.uses_by_kind == {"payload": symbols.channel_uses}
    assert symbols.values.abs().square().mean().item() == pytest.approx(1, abs=1e-5)
    assert symbols.payload is not None
    bits = capacity_bits(symbols.channel_uses, 4.0)
    assert 0.9 * bits < 8 * symbols.payload.shape[1] <= bits
    result = scheme.decode(AWGN(4.0)(symbols, generator()))
    best = JPEG2000().finest(crop[0], bits)
    assert best is not None
    assert torch.equal(result.image[0], JPEG2000().decode(best, (96, 128)))


@pytest.mark.parametrize(("snr_db", "quality"), [(1, 26.53), (13, 30.64)])
def test_bpg_at_capacity_as_a_scheme_gives_the_recorded_psnr(snr_db: int, quality: float) -> None:
    image = load_image(PHOTOGRAPHS / "coffee.webp")[None]
    result = digital_scheme("bpg-capacity", Fraction(1, 16))(image, AWGN(float(snr_db)))
    assert psnr(quantise(result.image), image).item() == pytest.approx(quality, abs=0.15)


@pytest.mark.parametrize("carrier", ["ldpc", "capacity"])
def test_batches_are_their_images(crop: Tensor, carrier: str) -> None:
    images = torch.cat((crop, crop.flip(3), crop.roll(20, 2)))
    scheme = digital_scheme(f"webp-{carrier}", Fraction(1, 2))  # type: ignore[arg-type]
    assert isinstance(scheme.codec, DetectingCodec)
    together = scheme.decode(scheme.send(images, AWGN(6.0), [generator(i) for i in range(3)]))
    assert together.image.shape == images.shape
    for i, image in enumerate(images):
        alone = scheme.decode(scheme.send(image[None], AWGN(6.0), generator(i)))
        assert torch.equal(alone.image[0], together.image[i])
    received = scheme.send(images, AWGN(6.0), generator())
    assert torch.equal(scheme.codec.decode(received.select(slice(1, 2)))[0], together.image[1])


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (17, 40)])
def test_tiny_and_grey_images(size: tuple[int, int]) -> None:
    grey = torch.full((1, 3, *size), 100 / 255)
    for kind in ("bpg-ldpc", "avif-ldpc"):
        with pytest.raises(InfeasibleError, match=r"less than a byte|at its coarsest"):
            digital_scheme(kind, Fraction(1, 16))(grey, AWGN(5.0))
        # 2560 channel uses have room for an image file, if it is of a pixel.
        rate = Fraction(2560, size[0] * size[1])
        result = digital_scheme(kind, rate)(grey, AWGN(30.0), generator())
        assert (result.image - grey).abs().max() < 4 / 255


def test_extreme_snrs_and_images(crop: Tensor) -> None:
    clean = link("256-qam 5/6")(crop, AWGN(200.0), generator())
    assert clean.outage is not None
    assert not clean.outage.any()
    noise = link("bpsk 1/2")(crop, AWGN(-200.0), generator())
    assert noise.outage is not None
    assert noise.outage.all()
    with pytest.raises(InfeasibleError, match="3,072 channel uses at -200 dB carry 0"):
        digital_scheme("jpeg2000-capacity", RATE)(crop, AWGN(-200.0))
    with pytest.raises(ValueError, match=r"70000x\d+.*resize"):
        digital_scheme("jpeg-ldpc", RATE)(torch.zeros(1, 3, 1, 70000), AWGN(5.0))


def test_what_cannot_be_received_is_refused(crop: Tensor) -> None:
    for kind in ("jpeg2000-ldpc", "jpeg2000-capacity"):
        scheme = digital_scheme(kind, RATE)  # type: ignore[arg-type]
        received = scheme.send(crop, AWGN(5.0), generator())
        short = Symbols(received.values[:, :-1], (96, 128), RATE)
        with pytest.raises(ValueError, match=r"3071 symbols received, but a 128x96 .* is 3072"):
            scheme.decode(AWGN(5.0)(short))
        broken = received.values.clone()
        broken[0, 5] = math.nan
        with pytest.raises(ValueError, match="NaN or infinite"):
            scheme.decode(AWGN(5.0)(Symbols(broken, (96, 128), RATE)))
        with pytest.raises(ValueError, match="hold NaN"):
            scheme.encode(crop * math.nan, 5.0)
    values = link().encode(crop, 5.0).values
    with pytest.raises(ValueError, match="sent by another codec"):
        scheme.decode(AWGN(5.0)(Symbols(values, (96, 128), RATE)))


def test_another_source_s_frame_is_an_outage(crop: Tensor) -> None:
    """The CRC holds, but what arrives is no image of the expected kind."""
    received = link("qpsk 1/2").send(crop, AWGN(10.0), generator())
    other = SeparateCodec(JPEG(), (RATE,), MCS.named("qpsk 1/2"))
    assert other.attempt(received)[1].tolist() == [True]


def test_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match="'bpsk 7/8' is not a modulation and code rate; known: bpsk"
    ):
        check(DigitalOptions, {"mcs": "bpsk 7/8"}, "test")
    with pytest.raises(ValueError, match="jpeg has qualities 1 to 100, not 0"):
        digital_scheme("jpeg-ldpc", RATE, DigitalOptions(quality=0))
    with pytest.raises(ValueError, match="mcs is qpsk 1/2, but jpeg-capacity has an ideal code"):
        digital_scheme("jpeg-capacity", RATE, DigitalOptions(mcs="qpsk 1/2"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SourceUnavailable, match="bpgenc is not on the PATH"):
        digital_scheme("bpgenc-ldpc", RATE)

    def missing() -> None:
        raise SourceUnavailable("HEVC (BPG) needs PyAV: pip install 'diffjscc[digital]'")

    monkeypatch.setattr(hevc, "_load_av", missing)
    with pytest.raises(SourceUnavailable, match="needs PyAV: pip install"):
        digital_scheme("bpg-capacity", RATE)


def test_capacity_over_gains_of_single_symbols_is_their_mean() -> None:
    """log2(1 + |h|²/N0) averages to the assumed capacity, where the mean power is above it."""
    from diffjscc.codecs.digital.capacity import _fits  # noqa: PLC0415
    from diffjscc.symbols import ChannelState  # noqa: PLC0415

    state = ChannelState(torch.tensor([[1.2, 0.7]], dtype=torch.complex64), torch.tensor([10.0]))
    rates = torch.log2(1 + 10 * torch.tensor([1.44, 0.49]))
    assert bool(_fits(state)) == (rates.mean() >= torch.log2(torch.tensor(11.0)))
    weaker = ChannelState(torch.full((1, 2), 0.99, dtype=torch.complex64), torch.tensor([10.0]))
    assert not bool(_fits(weaker))

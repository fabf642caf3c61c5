"""Modulation and coding schemes against their table and capacity; frames of any length."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffjscc.codecs.digital.frame import Frame
from diffjscc.codecs.digital.mcs import ALL, most_efficient, thresholds_db
from diffjscc.codecs.digital.scrambling import scramble

SOME = ["bpsk 1/2", "bpsk 2/3", "qpsk 3/4", "16-qam 1/2", "64-qam 3/4", "256-qam 5/6"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", SOME)
def test_thresholds_are_those_of_the_table(name: str) -> None:
    """Of long frames; the table has at most one codeword of 10,000 lost."""
    frame = Frame(ALL[name], 1944 * 60 // ALL[name].modulation.bits_per_symbol)

    def lost(snr_db: float) -> int:
        noise_power = torch.tensor(10 ** (-snr_db / 10))
        random = generator()
        data = torch.randint(256, (4, frame.data_bytes), generator=random).tolist()
        sent = torch.stack([frame.modulate(bytes(part)) for part in data])
        noise = torch.randn(sent.shape, dtype=torch.complex64, generator=random)
        received = sent + noise_power.sqrt() * noise
        return sum(frame.demodulate(values, noise_power[None]) is None for values in received)

    assert frame.framing.codewords == 60
    assert lost(thresholds_db()[name] + 0.25) == 0
    assert lost(thresholds_db()[name] - 1) == 4


def test_thresholds_keep_a_distance_from_capacity() -> None:
    """No code beats Shannon; these stay within 4.5 dB, but for BPSK, which wastes half."""
    assert thresholds_db().keys() == ALL.keys()
    for name, snr_db in thresholds_db().items():
        limit_db = 10 * math.log10(2 ** float(ALL[name].efficiency) - 1)
        assert 0.8 < snr_db - limit_db < (5 if "bpsk" in name else 4.5), name
    for modulation in ("bpsk", "qpsk", "16-qam", "64-qam", "256-qam"):
        levels = [thresholds_db()[f"{modulation} {rate}"] for rate in ("1/2", "2/3", "3/4", "5/6")]
        assert levels == sorted(set(levels))
    # QPSK is BPSK twice, with half the energy each: 3.01 dB.
    for rate in ("1/2", "2/3", "3/4", "5/6"):
        step = thresholds_db()[f"qpsk {rate}"] - thresholds_db()[f"bpsk {rate}"]
        assert step == pytest.approx(3.01, abs=0.27)


def test_the_mcs_is_the_most_efficient_that_works() -> None:
    assert most_efficient(-10) is None
    before = Fraction(0)
    for snr_db in torch.arange(-1, 30, 0.25).tolist():
        mcs = most_efficient(snr_db)
        assert mcs is not None
        working = [name for name, needed in thresholds_db().items() if needed <= snr_db]
        assert mcs.name in working
        assert mcs.efficiency == max(ALL[name].efficiency for name in working) >= before
        before = mcs.efficiency
    assert before == 8 * Fraction(5, 6)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(list(ALL)),
    extra=st.integers(0, 3000),
    filled=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_frames_of_any_length(name: str, extra: int, filled: float, seed: int) -> None:
    mcs = ALL[name]
    frame = Frame(mcs, Frame.needed(mcs, 1) + extra)
    assert sum(frame.uses_by_kind.values()) == frame.channel_uses
    assert min(frame.uses_by_kind.values()) >= 0
    # Not a byte more would fit.
    assert Frame.needed(mcs, frame.data_bytes) <= frame.channel_uses
    assert Frame.needed(mcs, frame.data_bytes + 1) > frame.channel_uses
    length = round(filled * frame.data_bytes)
    data = bytes(torch.randint(256, (length,), generator=generator(seed)).tolist())
    symbols = frame.modulate(data)
    assert symbols.shape == (frame.channel_uses,)
    assert symbols.abs().square().mean().item() == pytest.approx(1, abs=1e-5)
    noise = torch.randn(symbols.shape, dtype=torch.complex64, generator=generator(seed))
    snr_db = thresholds_db()[name] + 3
    power = torch.tensor([10 ** (-snr_db / 10)])
    received = frame.demodulate(symbols + power.sqrt() * noise, power)
    assert received == data.ljust(frame.data_bytes, b"\0")
    assert frame.demodulate(noise, torch.ones(1)) is None


def test_nothing_but_zeros_looks_random_on_the_air() -> None:
    """Before it is scaled to unit power, a constellation's energy is the nominal one."""
    for name in ("16-qam 1/2", "256-qam 5/6"):
        frame = Frame(ALL[name], 4000)
        symbols = frame.modulate(b"")
        points = ALL[name].modulation.constellation
        nearest = (symbols[:, None] - points).abs().argmin(dim=1)
        assert points[nearest].abs().square().mean().item() == pytest.approx(1, abs=0.05)
        counts = torch.bincount(nearest, minlength=len(points))
        assert counts.max() < 5 * counts.float().mean()


def test_the_scrambler_is_the_one_of_802_11() -> None:
    zeros = torch.zeros(254, dtype=torch.bool)
    bits = scramble(zeros)
    start = "".join(str(int(bit)) for bit in bits[:32])
    assert start == "00001110111100101100100100000010"  # IEEE 802.11, 17.3.5.5
    assert torch.equal(bits[:127], bits[127:])
    assert torch.equal(scramble(bits), zeros)

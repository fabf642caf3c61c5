"""The codes are the standard's, the encoder exact, the decoder as good as belief propagation is."""

import hashlib
import math
from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffjscc.codecs.digital.crc import CRC_LENGTH, append_crc, crc_holds, parity_bits
from diffjscc.codecs.digital.ldpc import BLOCK_LENGTH, CODE_RATES, LDPC
from diffjscc.codecs.digital.ldpc_tables import CIRCULANT, SHIFTS
from diffjscc.codecs.digital.segmentation import Segmentation

CODES = [pytest.param(LDPC(rate), id=str(rate)) for rate in CODE_RATES]
EACH_CODE = pytest.mark.parametrize("code", CODES)


def random_bits(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5


def bpsk_llrs(bits: Tensor, eb_n0_db: float, rate: Fraction, seed: int = 1) -> Tensor:
    """LLRs of BPSK over AWGN."""
    noise_power = 1 / (float(rate) * 10 ** (eb_n0_db / 10))
    noise = torch.randn(bits.shape, generator=torch.Generator().manual_seed(seed))
    return 4 * (1 - 2 * bits.float() + math.sqrt(noise_power / 2) * noise) / noise_power


def block_error_rate(code: LDPC, eb_n0_db: float, codewords: int) -> float:
    bits = random_bits(codewords, code.k)
    llr = bpsk_llrs(code.encode(bits), eb_n0_db, code.code_rate)
    return (code.decode(llr)[0] != bits).any(dim=1).float().mean().item()


def shifts_of(code: LDPC) -> list[list[int | None]]:
    lines = SHIFTS[str(code.code_rate)].strip().splitlines()
    return [[None if s == "-" else int(s) for s in line.split()] for line in lines]


# What public copies of the standard's tables have in common.
DIGESTS = {
    "1/2": "e93034ac34c4813f",
    "2/3": "024d88637aa15cf4",
    "3/4": "0930804c3bf1d069",
    "5/6": "3223519936da137f",
}


@EACH_CODE
def test_tables_are_unchanged(code: LDPC) -> None:
    digest = hashlib.sha256(repr(shifts_of(code)).encode()).hexdigest()
    assert digest[:16] == DIGESTS[str(code.code_rate)]


@pytest.mark.parametrize(
    ("rate", "row_weights", "column_weights"),
    [
        ("1/2", [7] * 6 + [8] + [7] * 4 + [8], [11, 4, 3, 3] + [11, 3, 3, 3] * 2 + [3] + [2] * 11),
        ("2/3", [11] * 8, [8] * 4 + [6] + [3] * 12 + [2] * 7),
        ("3/4", [14] * 3 + [15] + [14] * 2, [6] * 6 + [3] * 13 + [2] * 5),
        ("5/6", [20] * 3 + [19], [4] * 10 + [3] * 11 + [2] * 3),
    ],
)
def test_weights_of_checks_and_bits(
    rate: str, row_weights: list[int], column_weights: list[int]
) -> None:
    matrix = LDPC(Fraction(rate)).parity_check.int()
    blocks = torch.tensor(row_weights), torch.tensor(column_weights)
    assert torch.equal(matrix.sum(dim=1), blocks[0].repeat_interleave(CIRCULANT))
    assert torch.equal(matrix.sum(dim=0), blocks[1].repeat_interleave(CIRCULANT))


@EACH_CODE
def test_parity_part_is_dual_diagonal(code: LDPC) -> None:
    shifts = shifts_of(code)
    parity = [row[24 - len(shifts) :] for row in shifts]
    for i, row in enumerate(parity):
        diagonal = {j: 0 for j in (i, i + 1) if 0 < j < len(parity)}
        assert {j: s for j, s in enumerate(row) if j and s is not None} == diagonal
    first = [row[0] for row in parity]
    assert first[0] == first[-1] == 1
    assert sorted(s for s in first[1:-1] if s is not None) == [0]


@EACH_CODE
def test_cycles_of_length_four(code: LDPC) -> None:
    """None but the one of the standard's rate 2/3: 48 - 43 = 69 - 64."""
    cycles = []
    for (i, upper), (j, lower) in combinations(enumerate(shifts_of(code)), 2):
        for a, b in combinations(range(24), 2):
            corners = (upper[a], upper[b], lower[a], lower[b])
            if None not in corners:
                across, along = corners[0] - corners[1], corners[2] - corners[3]
                cycles += [(i, j, a, b)] if (across - along) % CIRCULANT == 0 else []
    assert cycles == ([(3, 5, 0, 2)] if code.code_rate == Fraction(2, 3) else [])


@EACH_CODE
def test_checks_are_independent(code: LDPC) -> None:
    rows = [int("".join(map(str, row)), 2) for row in code.parity_check.int().tolist()]
    pivots: dict[int, int] = {}
    for row in rows:
        rest = row
        while rest and rest.bit_length() in pivots:
            rest ^= pivots[rest.bit_length()]
        assert rest
        pivots[rest.bit_length()] = rest
    assert len(pivots) == BLOCK_LENGTH - code.k


@EACH_CODE
def test_codewords_are_systematic_and_meet_every_check(code: LDPC) -> None:
    bits = random_bits(300, code.k)
    bits[0], bits[1] = False, True
    codewords = code.encode(bits)
    assert torch.equal(codewords[:, : code.k], bits)
    assert not (codewords.float() @ code.parity_check.float().T % 2).any()
    assert 0.45 < codewords[2:, code.k :].float().mean() < 0.55


@EACH_CODE
def test_decoder_leaves_codewords_alone_and_notices_others(code: LDPC) -> None:
    bits = random_bits(70, code.k)
    codewords = code.encode(bits)
    for certain in (0.1, 5.0, math.inf):
        llr = torch.where(codewords, -certain, certain)
        decoded, met = code.decode(llr, iterations=1)
        assert torch.equal(decoded, bits)
        assert met.all()
    noise = torch.randn(5, BLOCK_LENGTH, generator=torch.Generator().manual_seed(0))
    assert not code.decode(noise)[1].any()


@EACH_CODE
def test_decoder_fills_erasures(code: LDPC) -> None:
    """A third of the parity bits were not received at all."""
    bits = random_bits(20, code.k)
    llr = torch.where(code.encode(bits), -4.0, 4.0)
    parity = BLOCK_LENGTH - code.k
    llr[
        :, torch.randperm(BLOCK_LENGTH, generator=torch.Generator().manual_seed(0))[: parity // 3]
    ] = 0
    decoded, met = code.decode(llr)
    assert torch.equal(decoded, bits)
    assert met.all()


@pytest.mark.parametrize(
    ("rate", "fails_db", "works_db"),
    [("1/2", 0.3, 1.8), ("2/3", 1.0, 2.5), ("3/4", 1.5, 3.0), ("5/6", 2.3, 3.8)],
)
def test_waterfall(rate: str, fails_db: float, works_db: float) -> None:
    """Eb/N0 of BPSK over AWGN below which nearly all blocks are lost and above which few are."""
    code = LDPC(Fraction(rate))
    assert block_error_rate(code, fails_db, 100) > 0.95
    assert block_error_rate(code, works_db, 600) < 0.01


def test_more_iterations_help() -> None:
    code = LDPC(Fraction(1, 2))
    bits = random_bits(100, code.k)
    llr = bpsk_llrs(code.encode(bits), 1.4, code.code_rate)
    few, some, many = ((code.decode(llr, n)[0] != bits).any(dim=1).sum() for n in (3, 8, 20))
    assert few > 90
    assert few > some > many
    assert many < 20


def layered_sionna(code: LDPC, iterations: int, llr: Tensor) -> Tensor:
    """What sionna's sum-product decoder makes of the LLRs, visiting the checks in our order."""
    decoding = pytest.importorskip(
        "sionna.phy.fec.ldpc.decoding", reason="needs pip install sionna-no-rt"
    )
    matrix = code.parity_check.double().numpy()
    schedule = torch.arange(len(matrix)).reshape(-1, CIRCULANT)
    decoder = decoding.LDPCBPDecoder(
        matrix, "boxplus", cn_schedule=schedule, num_iter=iterations, device="cpu"
    )
    return decoder(-llr)[:, : code.k].bool()  # LLRs of the other sign


@EACH_CODE
def test_bits_are_those_of_sionna_while_undecided(code: LDPC) -> None:
    bits = random_bits(8, code.k)
    llr = bpsk_llrs(code.encode(bits), 0.5, code.code_rate)
    ours, theirs = code.decode(llr, 3)[0], layered_sionna(code, 3, llr)
    assert (ours != bits).float().mean() > 0.02
    assert (ours != theirs).float().mean() < 0.001


def test_block_error_rate_is_that_of_sionna() -> None:
    code = LDPC(Fraction(5, 6))
    bits = random_bits(150, code.k)
    llr = bpsk_llrs(code.encode(bits), 3.0, code.code_rate)
    ours, theirs = code.decode(llr)[0], layered_sionna(code, 20, llr)
    lost, lost_there = (ours != bits).any(dim=1), (theirs != bits).any(dim=1)
    assert 30 < lost.sum() < 120
    assert (lost != lost_there).sum() <= 6  # of the same noise


@pytest.mark.parametrize(
    ("rate", "eb_n0_db"), [("1/2", 0.9), ("2/3", 1.65), ("3/4", 2.25), ("5/6", 3.0)]
)
def test_block_error_rates_of_all_codes_are_those_of_flooding(rate: str, eb_n0_db: float) -> None:
    """Sionna's usual schedule takes twice the iterations, and loses the same blocks but for a few.

    Some 40 % are lost, so that 2 standard deviations of a rate of its own noise would be 12 blocks.
    """
    decoding = pytest.importorskip(
        "sionna.phy.fec.ldpc.decoding", reason="needs pip install sionna-no-rt"
    )
    code = LDPC(Fraction(rate))
    bits = random_bits(150, code.k)
    llr = bpsk_llrs(code.encode(bits), eb_n0_db, code.code_rate)
    matrix = code.parity_check.double().numpy()
    flooding = decoding.LDPCBPDecoder(matrix, "boxplus", num_iter=40, device="cpu")
    theirs = flooding(-llr)[:, : code.k].bool()
    lost = (code.decode(llr)[0] != bits).any(dim=1)
    lost_there = (theirs != bits).any(dim=1)
    assert 30 < lost.sum() < 90
    assert abs(int(lost.sum()) - int(lost_there.sum())) <= 6
    assert (lost != lost_there).sum() <= 12


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from(CODE_RATES),
    payload_bits=st.integers(1, 6000),
    seed=st.integers(0, 1000),
)
def test_payloads_of_any_length(rate: Fraction, payload_bits: int, seed: int) -> None:
    framing = Segmentation(LDPC(rate), payload_bits)
    parity = BLOCK_LENGTH - framing.code.k
    information = payload_bits + CRC_LENGTH
    assert framing.codewords == math.ceil(information / framing.code.k)
    assert framing.coded_bits == information + framing.codewords * parity
    assert 0 <= framing.shortened_bits < framing.code.k
    assert Segmentation.filling(framing.code, framing.coded_bits) == framing
    payload = random_bits(2, payload_bits, seed=seed)
    sent = framing.encode(payload)
    assert sent.shape == (2, framing.coded_bits)
    # Eb/N0 by the code's own rate: with that of a payload of a few bits, which is lower, Es/N0
    # would be too poor for what shortening leaves of the code of rate 5/6.
    llr = bpsk_llrs(sent, 6.0, rate, seed)
    decoded, intact = framing.decode(llr)
    assert torch.equal(decoded, payload)
    assert intact.all()


@EACH_CODE
def test_filling_leaves_no_room(code: LDPC) -> None:
    fewest = BLOCK_LENGTH - code.k + CRC_LENGTH + 1
    for coded_bits in (fewest, 1943, 1944, 1945, 3000, 3888, 3888 + fewest, 49_152):
        framing = Segmentation.filling(code, coded_bits)
        assert framing.coded_bits <= coded_bits
        assert Segmentation(code, framing.payload_bits + 1).coded_bits > coded_bits


def test_damaged_payloads_are_noticed() -> None:
    framing = Segmentation(LDPC(Fraction(1, 2)), 3001)
    sent = framing.encode(random_bits(40, 3001))
    decoded, intact = framing.decode(bpsk_llrs(sent, 0.9, framing.code.code_rate), 8)
    right = (decoded == random_bits(40, 3001)).all(dim=1)
    assert torch.equal(intact, right)
    assert not intact.all()
    assert not framing.decode(torch.zeros(1, framing.coded_bits))[1].any()  # silence


def test_crc_of_the_catalogue() -> None:
    """CRC-24/LTE-A of the ASCII digits 1 to 9."""
    digits = [int(bit) for byte in b"123456789" for bit in f"{byte:08b}"]
    crc = parity_bits(torch.tensor([digits]).bool())[0]
    assert int("".join(str(int(bit)) for bit in crc), 2) == 0xCDE703


@pytest.mark.parametrize("length", [1, 23, 976, 977, 2500])
def test_crc_notices_every_burst(length: int) -> None:
    """Errors within 24 bits, at every place of the word."""
    word = append_crc(random_bits(1, length))
    assert crc_holds(word).all()
    starts = torch.arange(length)[:, None]
    errors = torch.zeros(length, word.shape[1], dtype=torch.bool)
    burst = random_bits(length, CRC_LENGTH, seed=1)
    burst[:, 0] = True
    errors.scatter_(1, starts + torch.arange(CRC_LENGTH), burst)
    assert not crc_holds(word ^ errors).any()


def test_errors() -> None:
    with pytest.raises(ValueError, match="code rate 7/8 is not one of 1/2, 2/3, 3/4, 5/6"):
        LDPC(Fraction(7, 8))
    code = LDPC(Fraction(3, 4))
    with pytest.raises(ValueError, match=r"\[1, 1457\]; they must be torch.bool \[B, 1458\]"):
        code.encode(random_bits(1, 1457))
    with pytest.raises(ValueError, match="float32"):
        code.encode(torch.zeros(1, 1458))
    with pytest.raises(ValueError, match=r"\[1, 1458\]; it must be \[B, 1944\]"):
        code.decode(torch.zeros(1, 1458))
    with pytest.raises(ValueError, match="NaN"):
        code.decode(torch.full((1, 1944), math.nan))
    with pytest.raises(ValueError, match="iterations is 0"):
        code.decode(torch.zeros(1, 1944), 0)
    with pytest.raises(ValueError, match="payload_bits is 0"):
        Segmentation(code, 0)
    with pytest.raises(ValueError, match=r"510 coded bits carry no payload; .* at least 511 are"):
        Segmentation.filling(code, 510)
    framing = Segmentation(code, 100)
    with pytest.raises(ValueError, match=r"\[1, 611\]; it must be \[B, 610\]"):
        framing.decode(torch.zeros(1, 611))
    with pytest.raises(ValueError, match=r"torch.bool \[B, 100\]"):
        framing.encode(random_bits(1, 99))

"""Constellations: energy, Gray labels, error rates of theory, LLRs that mean what they say."""

import math

import pytest
import torch
from torch import Tensor

from diffjscc.codecs.digital.modulation import BITS_PER_SYMBOL, Modulation

NAMES = list(BITS_PER_SYMBOL)


def random_bits(number: int, seed: int = 0) -> Tensor:
    return torch.rand(number, generator=torch.Generator().manual_seed(seed)) < 0.5


def noisy(symbols: Tensor, noise_power: float | Tensor, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(symbols.shape, dtype=torch.complex64, generator=generator)
    return symbols + torch.as_tensor(noise_power).sqrt() * noise


@pytest.mark.parametrize("name", NAMES)
def test_unit_mean_energy(name: str) -> None:
    points = Modulation(name).constellation
    assert points.dtype == torch.complex64
    assert len(set(points.tolist())) == 2 ** BITS_PER_SYMBOL[name]
    assert points.abs().square().mean().item() == pytest.approx(1, abs=1e-6)
    assert points.mean().abs() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_nearest_points_differ_in_one_bit(name: str) -> None:
    points = Modulation(name).constellation
    distance = (points[:, None] - points).abs() + 10 * torch.eye(len(points))
    first, second = torch.nonzero(distance < 1.001 * distance.min(), as_tuple=True)
    width = BITS_PER_SYMBOL[name]
    side = math.isqrt(2**width)
    assert len(first) == (2 if name == "bpsk" else 4 * side * (side - 1))
    assert all(
        (i ^ j).bit_count() == 1 for i, j in zip(first.tolist(), second.tolist(), strict=True)
    )


def test_points_of_ts_38_211() -> None:
    """The nested formulas of 5.1.3 to 5.1.6, for all labels."""

    def part(name: str, b: list[int]) -> float:
        s = [1 - 2 * bit for bit in b]
        return {
            "qpsk": lambda: s[0] / math.sqrt(2),
            "16-qam": lambda: s[0] * (2 - s[1]) / math.sqrt(10),
            "64-qam": lambda: s[0] * (4 - s[1] * (2 - s[2])) / math.sqrt(42),
            "256-qam": lambda: s[0] * (8 - s[1] * (4 - s[2] * (2 - s[3]))) / math.sqrt(170),
        }[name]()

    for name in NAMES[1:]:
        width = BITS_PER_SYMBOL[name]
        for number, point in enumerate(Modulation(name).constellation.tolist()):
            bits = [number >> i & 1 for i in reversed(range(width))]
            expected = complex(part(name, bits[::2]), part(name, bits[1::2]))
            assert point == pytest.approx(expected, abs=1e-6)


def bit_error_rate_of_theory(name: str, snr_db: float) -> float:
    """Over AWGN with nearest-point decisions; QAM by Cho and Yoon, IEEE Trans. Commun. 2002."""
    es_n0 = 10 ** (snr_db / 10)
    if name == "bpsk":
        return 0.5 * math.erfc(math.sqrt(es_n0))
    levels = math.isqrt(2 ** BITS_PER_SYMBOL[name])
    step = math.sqrt(3 * es_n0 / (2 * (levels**2 - 1)))
    width = levels.bit_length() - 1
    rate = 0.0
    for k in range(1, width + 1):
        for j in range(levels - levels // 2**k):
            sign = (-1) ** (j * 2 ** (k - 1) // levels)
            weight = 2 ** (k - 1) - math.floor(j * 2 ** (k - 1) / levels + 0.5)
            rate += sign * weight * math.erfc((2 * j + 1) * step) / (levels * width)
    return rate


@pytest.mark.parametrize(
    ("name", "snr_db"),
    [("bpsk", 4.0), ("qpsk", 7.0), ("16-qam", 13.0), ("64-qam", 19.0), ("256-qam", 25.0)],
)
def test_uncoded_bit_error_rate_is_that_of_theory(name: str, snr_db: float) -> None:
    modulation, noise_power = Modulation(name), 10 ** (-snr_db / 10)
    bits = random_bits(1_200_000)
    llr = modulation.demap(noisy(modulation.map(bits), noise_power), noise_power)
    theory = bit_error_rate_of_theory(name, snr_db)
    assert 0.005 < theory < 0.03
    deviation = math.sqrt(theory * (1 - theory) / len(bits))
    assert ((llr < 0) != bits).float().mean().item() == pytest.approx(theory, abs=4 * deviation)


@pytest.mark.parametrize("name", NAMES)
def test_llrs_are_calibrated(name: str) -> None:
    """Among bits with about one LLR the share of ones is 1/(1 + e^LLR); SNR varies by symbol."""
    modulation = Modulation(name)
    bits = random_bits(960_000)
    symbols = modulation.map(bits)
    noise_power = 10 ** (-torch.linspace(-5, 20, len(symbols)) / 10)
    llr = modulation.demap(noisy(symbols, noise_power), noise_power)
    edges = torch.tensor([-9.0, -5, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 5, 9])
    place = torch.bucketize(llr, edges)
    for i in range(len(edges) + 1):
        ones, expected = bits[place == i].double(), torch.sigmoid(-llr[place == i].double())
        assert len(ones) > 500
        deviation = (expected * (1 - expected)).sum().sqrt().item() + 1
        assert ones.sum().item() == pytest.approx(expected.sum().item(), abs=4 * deviation)


def test_llr_of_bpsk_is_4_y_over_n0() -> None:
    received = torch.tensor([0.3 - 2j, -1.5 + 0.1j, 0j], dtype=torch.complex64)
    noise_power = torch.tensor([0.5, 0.1, 2.0])
    llr = Modulation("bpsk").demap(received, noise_power)
    torch.testing.assert_close(llr, 4 * received.real / noise_power)


@pytest.mark.parametrize("name", NAMES)
def test_llrs_are_sums_over_all_points(name: str) -> None:
    modulation = Modulation(name)
    received = noisy(modulation.map(random_bits(240).reshape(2, -1)), 0.2)
    llr = modulation.demap(received, 0.2).reshape(*received.shape, -1)
    fit = (-(received[..., None] - modulation.constellation).abs().double().square() / 0.2).exp()
    numbers = torch.arange(2**modulation.bits_per_symbol)
    for i in range(modulation.bits_per_symbol):
        one = (numbers >> (modulation.bits_per_symbol - 1 - i) & 1).bool()
        expected = (fit[..., ~one].sum(-1) / fit[..., one].sum(-1)).log()
        torch.testing.assert_close(llr[..., i].double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_no_noise_power_is_too_small(name: str) -> None:
    modulation, bits = Modulation(name), random_bits(4800)
    for noise_power in (1e-3, 1e-12, 1e-38):
        llr = modulation.demap(3 * modulation.map(bits), noise_power)
        assert not llr.isnan().any()
        assert torch.equal(llr < 0, modulation.demap(3 * modulation.map(bits), 1e-3) < 0)
    assert torch.equal(modulation.demap(modulation.map(bits), 1e-38) < 0, bits)


def test_mapping_and_llrs_are_those_of_sionna() -> None:
    mapping = pytest.importorskip("sionna.phy.mapping", reason="needs pip install sionna-no-rt")
    for name in NAMES[1:]:
        modulation, width = Modulation(name), BITS_PER_SYMBOL[name]
        points = mapping.Constellation("qam", width, device="cpu").points
        torch.testing.assert_close(points, modulation.constellation)
        received = noisy(modulation.map(random_bits(480).reshape(2, -1)), 0.1)
        demapper = mapping.Demapper("app", "qam", width, device="cpu")
        theirs = -demapper(received, torch.tensor(0.1))  # log P(1)/P(0)
        torch.testing.assert_close(modulation.demap(received, 0.1), theirs, atol=1e-3, rtol=1e-3)


def test_errors() -> None:
    with pytest.raises(ValueError, match="'8-psk' is not one of bpsk, qpsk, 16-qam"):
        Modulation("8-psk")
    qam = Modulation("64-qam")
    with pytest.raises(ValueError, match=r"\[8\]; 64-qam takes torch.bool, 6 for each symbol"):
        qam.map(random_bits(8))
    with pytest.raises(ValueError, match=r"float32 \[6\]; 64-qam takes torch.bool"):
        qam.map(torch.zeros(6))
    symbols = torch.tensor([1 + 0j, complex(math.nan, 0)])
    with pytest.raises(ValueError, match="symbols contain NaN"):
        qam.demap(symbols, 1.0)
    for noise_power in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="noise_power must be finite and positive"):
            qam.demap(torch.ones(2, dtype=torch.complex64), noise_power)

"""Words of side information: kept on poor links, counted in channel uses."""

import math

import torch

from diffjscc.codecs.side_information import (
    USES,
    bits_to_words,
    receive_words,
    send_words,
    words_to_bits,
)


def test_all_words_come_back_and_have_the_power_of_symbols() -> None:
    words = torch.arange(128).reshape(4, 32)
    values = send_words(words)
    assert values.shape == (4, 32 * USES)
    torch.testing.assert_close(values.abs(), torch.ones(4, 32 * USES))
    assert torch.equal(receive_words(values), words)
    # Biorthogonal: any two differ in half of their signs, or in all.
    signs = torch.view_as_real(send_words(torch.arange(128)[:, None])).flatten(1).sign()
    products = (signs @ signs.T).long()
    assert set(products.flatten().tolist()) == {-64, 0, 64}


def test_errors_are_those_of_the_union_bound() -> None:
    generator = torch.Generator().manual_seed(5)
    words = torch.randint(128, (200, 40), generator=generator)
    values = send_words(words)
    rates = {}
    for snr_db in (-8.0, -6.0, 0.0):
        deviation = math.sqrt(10 ** (-snr_db / 10))
        noise = torch.randn(values.shape, dtype=torch.complex64, generator=generator)
        rates[snr_db] = float((receive_words(values + deviation * noise) != words).float().mean())
        bound = 127 * 0.5 * math.erfc(math.sqrt(USES * 10 ** (snr_db / 10) / 2))
        assert rates[snr_db] <= 1.2 * bound + 1e-3
    assert rates[0.0] == 0
    assert 0 < rates[-6.0] < rates[-8.0] < 0.5


def test_bits_are_packed_and_unpacked() -> None:
    bits = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) > 0.5
    words = bits_to_words(bits)
    assert words.shape == (3, 6)
    assert torch.equal(words_to_bits(words, 40), bits)

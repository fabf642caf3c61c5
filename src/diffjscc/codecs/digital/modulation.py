"""Gray-mapped BPSK, QPSK and square QAM: mapping of bits to symbols, and demapping to LLRs.

BPSK is on the real axis; the others are those of 3GPP TS 38.211, 5.1.3 to 5.1.6. LLRs are
log P(bit = 0) / P(bit = 1): positive for 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

BITS_PER_SYMBOL = {"bpsk": 1, "qpsk": 2, "16-qam": 4, "64-qam": 6, "256-qam": 8}


@dataclass(frozen=True)
class Modulation:
    """A constellation with unit mean energy.

    The even bits of a symbol select its real part and the odd bits its imaginary part, from the
    same amplitudes; BPSK has no imaginary part.

    Attributes:
        name: one of `BITS_PER_SYMBOL`.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in BITS_PER_SYMBOL:
            offered = ", ".join(BITS_PER_SYMBOL)
            raise ValueError(f"modulation {self.name!r} is not one of {offered}")

    @property
    def bits_per_symbol(self) -> int:
        """Coded bits per complex channel use."""
        return BITS_PER_SYMBOL[self.name]

    @property
    def _parts(self) -> int:
        """Number of real dimensions: 1 if symbols are real, else 2."""
        return min(2, self.bits_per_symbol)

    @cached_property
    def _labels(self) -> Tensor:
        """Bits of each amplitude, bool [levels, bits]."""
        return _binary(self.bits_per_symbol // self._parts)

    @cached_property
    def _amplitudes(self) -> Tensor:
        """Amplitudes by label, float32 [levels].

        The first bit is the sign; each further bit selects a half of the remaining interval:
        s0 (4 - s1 (2 - s2)) for 64-QAM, with s = 1 - 2 bit.
        """
        signs = 1.0 - 2.0 * self._labels
        amplitude = signs[:, -1]
        for i in range(1, signs.shape[1]):
            amplitude = signs[:, -1 - i] * (2**i - amplitude)
        energy = self._parts * amplitude.square().mean()
        return amplitude / energy.sqrt()

    @property
    def constellation(self) -> Tensor:
        """Constellation points by their label, first bit most significant: complex64 [2^bits]."""
        return self.map(_binary(self.bits_per_symbol)).squeeze(1)

    def map(self, bits: Tensor) -> Tensor:
        """Map bits, bool [..., n · bits_per_symbol], to symbols, complex64 [..., n].

        Raises:
            ValueError: `bits` has another type or is not a whole number of symbols.
        """
        if bits.dtype != torch.bool or bits.shape[-1] % self.bits_per_symbol:
            raise ValueError(
                f"bits are {bits.dtype} {list(bits.shape)}; {self.name} takes torch.bool, "
                f"{self.bits_per_symbol} for each symbol"
            )
        symbols = bits.shape[-1] // self.bits_per_symbol
        width = self._labels.shape[1]
        labels = bits.reshape(*bits.shape[:-1], symbols, width, self._parts)
        weights = 2 ** torch.arange(width - 1, -1, -1, device=bits.device)
        parts = self._amplitudes.to(bits.device)[(labels * weights[:, None]).sum(dim=-2)]
        real = parts[..., 0]
        imaginary = parts[..., 1] if self._parts == 2 else torch.zeros_like(real)
        return torch.complex(real, imaginary)

    def demap(self, symbols: Tensor, noise_power: float | Tensor) -> Tensor:
        """Compute exact LLRs for equally likely points.

        Args:
            symbols: equalised symbols, complex64 [..., n].
            noise_power: N0 per complex symbol, half in each real dimension; a number, or a tensor
                that broadcasts to `symbols`. After zero forcing it is N0/|gain|².

        Returns:
            float32 [..., n · bits_per_symbol].

        Raises:
            ValueError: a symbol is not finite, or a noise power not finite and positive.
        """
        power = torch.as_tensor(noise_power, dtype=torch.float32, device=symbols.device)
        if not bool((power.isfinite() & (power > 0)).all()):
            raise ValueError("noise_power must be finite and positive")
        if not bool(symbols.isfinite().all()):
            raise ValueError("symbols contain NaN or infinite values; they must be finite")
        parts = torch.view_as_real(symbols)[..., : self._parts, None]
        distance = (parts - self._amplitudes.to(symbols.device)).square()
        excess = distance - distance.amin(
            dim=-1, keepdim=True
        )  # its minimum is 0, so that no likelihood underflows
        fit = -excess / power.expand(symbols.shape)[..., None, None]
        llr = [
            fit[..., ~bit].logsumexp(-1) - fit[..., bit].logsumexp(-1)
            for bit in self._labels.to(symbols.device).T
        ]
        return torch.stack(llr, dim=-2).flatten(-3)


def _binary(width: int) -> Tensor:
    """List 0 … 2^width - 1 in binary, most significant bit first: bool [2^width, width]."""
    return torch.arange(2**width)[:, None] >> torch.arange(width - 1, -1, -1) & 1 == 1

"""Gray-mapped BPSK, QPSK and square QAM: bits to symbols, and received symbols to LLRs.

BPSK is on the real axis; the others are those of 3GPP TS 38.211, 5.1.3 to 5.1.6. LLRs are
log P(bit = 0) / P(bit = 1), so a positive one speaks for 0.
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

    A symbol's even bits choose its real part and the odd ones its imaginary part, each from the
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
        """Bits that one complex channel use carries, uncoded."""
        return BITS_PER_SYMBOL[self.name]

    @property
    def _parts(self) -> int:
        """1 if symbols are real, else 2."""
        return min(2, self.bits_per_symbol)

    @cached_property
    def _labels(self) -> Tensor:
        """The bits of each amplitude, bool [levels, bits]."""
        return _binary(self.bits_per_symbol // self._parts)

    @cached_property
    def _amplitudes(self) -> Tensor:
        """Amplitudes by number, float32 [levels].

        The first bit is the sign, and each further one says on which side of the middle of what
        is left: s0 (4 - s1 (2 - s2)) for 64-QAM, with s = 1 - 2 bit.
        """
        signs = 1.0 - 2.0 * self._labels
        amplitude = signs[:, -1]
        for i in range(1, signs.shape[1]):
            amplitude = signs[:, -1 - i] * (2**i - amplitude)
        energy = self._parts * amplitude.square().mean()
        return amplitude / energy.sqrt()

    @property
    def constellation(self) -> Tensor:
        """The points by the number their bits make, the first highest: complex64 [2^bits]."""
        return self.map(_binary(self.bits_per_symbol)).squeeze(1)

    def map(self, bits: Tensor) -> Tensor:
        """Bits, bool [..., n · bits_per_symbol], to symbols, complex64 [..., n].

        Raises:
            ValueError: of another type, or no whole number of symbols.
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
        """Exact LLRs, all points being equally likely.

        Args:
            symbols: received and equalised, complex64 [..., n].
            noise_power: N0 per complex symbol, half in each real part; a number, or a tensor that
                broadcasts to `symbols`. After zero forcing it is N0/|gain|².

        Returns:
            float32 [..., n · bits_per_symbol].

        Raises:
            ValueError: a symbol is not finite, or a noise power not finite and positive.
        """
        power = torch.as_tensor(noise_power, dtype=torch.float32, device=symbols.device)
        if not bool((power.isfinite() & (power > 0)).all()):
            raise ValueError("noise_power must be finite and positive")
        if not bool(symbols.isfinite().all()):
            raise ValueError("symbols hold NaN or infinity; they must be finite")
        parts = torch.view_as_real(symbols)[..., : self._parts, None]
        distance = (parts - self._amplitudes.to(symbols.device)).square()
        excess = distance - distance.amin(dim=-1, keepdim=True)  # one is 0, at any noise power
        fit = -excess / power.expand(symbols.shape)[..., None, None]
        llr = [
            fit[..., ~bit].logsumexp(-1) - fit[..., bit].logsumexp(-1)
            for bit in self._labels.to(symbols.device).T
        ]
        return torch.stack(llr, dim=-2).flatten(-3)


def _binary(width: int) -> Tensor:
    """0 … 2^width - 1 in binary, the highest bit first: bool [2^width, width]."""
    return torch.arange(2**width)[:, None] >> torch.arange(width - 1, -1, -1) & 1 == 1

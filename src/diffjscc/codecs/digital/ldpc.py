"""LDPC codes of IEEE 802.11n with blocks of 1944 bits: encoder and belief propagation.

Bits are bool. LLRs are log P(bit = 0) / P(bit = 1): positive for 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from diffjscc.codecs.digital.ldpc_tables import CIRCULANT, SHIFTS

BLOCK_LENGTH = 24 * CIRCULANT
CODE_RATES = tuple(Fraction(rate) for rate in SHIFTS)

_BATCH = 64  # codewords decoded together: their messages fit into the cache
_LARGEST_LLR = 100.0  # limit of LLRs; check messages are at most 2 atanh(_CERTAIN) = 16.6
_CERTAIN = 1 - 2**-23


@dataclass(frozen=True)
class LDPC:
    """Quasi-cyclic LDPC code with a dual-diagonal parity part.

    Codewords are the k information bits, then 1944 - k parity bits. Parity checks are grouped in
    layers of 81, one per row of `SHIFTS`.

    Attributes:
        code_rate: k/1944, one of `CODE_RATES`: 1/2, 2/3, 3/4, 5/6.
    """

    code_rate: Fraction

    def __post_init__(self) -> None:
        if self.code_rate not in CODE_RATES:
            offered = ", ".join(SHIFTS)
            raise ValueError(f"code rate {self.code_rate} is not one of {offered}")

    @cached_property
    def k(self) -> int:
        """Information bits per codeword."""
        return int(BLOCK_LENGTH * self.code_rate)

    @cached_property
    def layers(self) -> tuple[Tensor, ...]:
        """Bit indices of each check: int64 [weight, 81] per layer, information bits first."""
        row = torch.arange(CIRCULANT)
        layers = []
        for line in SHIFTS[str(self.code_rate)].strip().splitlines():
            columns = [(j, int(s)) for j, s in enumerate(line.split()) if s != "-"]
            layers.append(torch.stack([CIRCULANT * j + (row + s) % CIRCULANT for j, s in columns]))
        return tuple(layers)

    @property
    def parity_check(self) -> Tensor:
        """Parity-check matrix, bool [1944 - k, 1944]."""
        matrix = torch.zeros(BLOCK_LENGTH - self.k, BLOCK_LENGTH, dtype=torch.bool)
        for i, layer in enumerate(self.layers):
            rows = CIRCULANT * i + torch.arange(CIRCULANT)
            matrix[rows.expand_as(layer), layer] = True
        return matrix

    def encode(self, bits: Tensor) -> Tensor:
        """Append the parity bits.

        The sum over all layers gives the first parity block; each layer then gives the next one.

        Args:
            bits: information bits, bool [B, k].

        Returns:
            Codewords, bool [B, 1944].

        Raises:
            ValueError: `bits` has another type or length.
        """
        check_bits(bits, self.k)
        sums = []
        for layer in self.layers:
            information = layer[layer[:, 0] < self.k].to(bits.device)
            sums.append(bits[:, information].sum(dim=1) % 2 == 1)
        first = torch.stack(sums).sum(dim=0) % 2 == 1
        parity = [first, sums[0] ^ first.roll(-1, dims=1)]
        for layer, known in zip(self.layers[1:-1], sums[1:-1], strict=True):
            block = parity[-1] ^ known
            parity.append(block ^ first if self.k in layer else block)
        return torch.cat([bits, *parity], dim=1)

    @torch.no_grad()
    def decode(self, llr: Tensor, iterations: int = 20) -> tuple[Tensor, Tensor]:
        """Decode by layered belief propagation; codewords stop once all checks are satisfied.

        Hocevar, "A reduced complexity decoder architecture via layered decoding of LDPC codes",
        SiPS 2004: the messages of a layer are used by the next layer in the same iteration.

        Args:
            llr: float [B, 1944]; ±inf for known bits.
            iterations: maximum number of iterations, at least 1.

        Returns:
            Information bits, bool [B, k], and whether all checks are satisfied, bool [B].

        Raises:
            ValueError: another length, NaN, or `iterations` below 1.
        """
        if llr.ndim != 2 or llr.shape[1] != BLOCK_LENGTH:
            raise ValueError(f"LLRs have shape {list(llr.shape)}; it must be [B, {BLOCK_LENGTH}]")
        if bool(llr.isnan().any()):
            raise ValueError("LLRs hold NaN; each must be a number or ±inf")
        if iterations < 1:
            raise ValueError(f"iterations is {iterations}; it must be at least 1")
        codewords = torch.zeros(llr.shape, dtype=torch.bool, device=llr.device)
        met = torch.zeros(len(llr), dtype=torch.bool, device=llr.device)
        for start in range(0, len(llr), _BATCH):
            part = slice(start, start + _BATCH)
            self._propagate(llr[part], iterations, codewords[part], met[part])
        return codewords[:, : self.k], met

    def _propagate(self, llr: Tensor, iterations: int, codewords: Tensor, met: Tensor) -> None:
        """Decode some codewords into `codewords` and `met`; messages are [bit, codeword]."""
        layers = [(layer.flatten().to(llr.device), layer.shape) for layer in self.layers]
        beliefs = llr.float().clamp(-_LARGEST_LLR, _LARGEST_LLR).T.contiguous()
        messages = [beliefs.new_zeros(*shape, len(llr)) for _, shape in layers]
        active = torch.arange(len(llr), device=llr.device)
        for _ in range(iterations):
            for i, (bits, shape) in enumerate(layers):
                others = beliefs.index_select(0, bits).view(*shape, -1).sub_(messages[i])
                messages[i] = _check_messages(others)
                beliefs.index_copy_(0, bits, others.add_(messages[i]).flatten(0, 1))
            ones = beliefs < 0
            done = torch.stack([_met(ones, *layer) for layer in layers]).all(dim=0)
            codewords[active], met[active] = ones.T, done
            if bool(done.all()):
                return
            if bool(done.any()):
                active, beliefs = active[~done], beliefs[:, ~done]
                messages = [message[..., ~done] for message in messages]


def _check_messages(incoming: Tensor) -> Tensor:
    """Compute check-to-variable messages: 2 atanh of the product of the others' tanh(LLR/2)."""
    # tanh(x/2) = 2 σ(x) - 1, which torch computes six times as fast; bits that are erased count
    # as hardly known, so that nothing is divided by zero.
    tanh = torch.sigmoid(incoming).mul_(2).sub_(1).add_(1e-7)
    others = torch.div(tanh.prod(dim=0), tanh, out=tanh)
    return others.clamp_(-_CERTAIN, _CERTAIN).atanh_().mul_(2)


def _met(ones: Tensor, bits: Tensor, shape: torch.Size) -> Tensor:
    """Return whether all checks of a layer are satisfied by codewords bool [1944, B], bool [B].

    Args:
        ones: the codewords' bits.
        bits: numbers of the bits of each check, one after the other.
        shape: bits of a check and checks, (weight, 81).
    """
    checked = ones.view(torch.uint8).index_select(0, bits).view(*shape, -1)
    return ~(checked.sum(dim=0, dtype=torch.uint8) % 2 == 1).any(dim=0)


def check_bits(bits: Tensor, length: int) -> None:
    """Raise ValueError unless `bits` is bool [B, length]."""
    if bits.dtype != torch.bool or bits.ndim != 2 or bits.shape[1] != length:
        raise ValueError(
            f"bits are {bits.dtype} {list(bits.shape)}; they must be torch.bool [B, {length}]"
        )

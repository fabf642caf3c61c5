"""Segmentation of payloads into LDPC codewords: CRC and shortening."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffjscc.codecs.digital.crc import CRC_LENGTH, append_crc, crc_holds
from diffjscc.codecs.digital.ldpc import BLOCK_LENGTH, LDPC, check_bits


@dataclass(frozen=True)
class Segmentation:
    """Segmentation of a payload and its CRC into the minimum number of codewords.

    Unused information bits are zeros known to both ends and not sent (shortening). They are
    distributed evenly: lengths of codewords differ by at most a bit.

    Attributes:
        code: the LDPC code.
        payload_bits: length of the payload, at least 1.
    """

    code: LDPC
    payload_bits: int

    def __post_init__(self) -> None:
        if self.payload_bits < 1:
            raise ValueError(f"payload_bits is {self.payload_bits}; it must be at least 1")

    @classmethod
    def filling(cls, code: LDPC, coded_bits: int) -> Segmentation:
        """Choose the longest payload that fits into `coded_bits` transmitted bits.

        Raises:
            ValueError: no payload fits.
        """
        parity = BLOCK_LENGTH - code.k
        full, rest = divmod(coded_bits, BLOCK_LENGTH)
        payload = full * code.k + max(0, rest - parity) - CRC_LENGTH
        if payload < 1:
            raise ValueError(
                f"{coded_bits} coded bits carry no payload; at code rate {code.code_rate} at "
                f"least {parity + CRC_LENGTH + 1} are needed"
            )
        return cls(code, payload)

    @property
    def codewords(self) -> int:
        """Codewords per payload."""
        return -(-(self.payload_bits + CRC_LENGTH) // self.code.k)

    @property
    def shortened_bits(self) -> int:
        """Zeros not sent, over all codewords."""
        return self.codewords * self.code.k - self.payload_bits - CRC_LENGTH

    @property
    def coded_bits(self) -> int:
        """Bits sent per payload."""
        return self.codewords * BLOCK_LENGTH - self.shortened_bits

    @cached_property
    def _sent(self) -> Tensor:
        """Mask of the bits that are sent, bool [codewords, 1944]."""
        shortest, longer = divmod(self.payload_bits + CRC_LENGTH, self.codewords)
        used = shortest + (torch.arange(self.codewords) < longer).int()
        position = torch.arange(BLOCK_LENGTH)
        return (position < used[:, None]) | (position >= self.code.k)

    def encode(self, payload: Tensor) -> Tensor:
        """Encode payloads, bool [B, payload_bits], as transmitted bits, bool [B, coded_bits].

        Raises:
            ValueError: `payload` has another type or length.
        """
        check_bits(payload, self.payload_bits)
        sent = self._sent.to(payload.device)
        information = payload.new_zeros(len(payload), self.codewords, self.code.k)
        information[:, sent[:, : self.code.k]] = append_crc(payload)
        codewords = self.code.encode(information.flatten(0, 1))
        return codewords.reshape(-1, *sent.shape)[:, sent]

    def decode(self, llr: Tensor, iterations: int = 20) -> tuple[Tensor, Tensor]:
        """Decode LLRs to payloads.

        Args:
            llr: log P(0)/P(1) of the transmitted bits, float [B, coded_bits].
            iterations: maximum number of iterations of belief propagation.

        Returns:
            Payloads, bool [B, payload_bits], and whether their CRC holds, bool [B].

        Raises:
            ValueError: another length, NaN, or `iterations` below 1.
        """
        if llr.ndim != 2 or llr.shape[1] != self.coded_bits:
            raise ValueError(
                f"LLRs have shape {list(llr.shape)}; it must be [B, {self.coded_bits}]"
            )
        sent = self._sent.to(llr.device)
        received = llr.new_full((len(llr), *sent.shape), torch.inf)
        received[:, sent] = llr
        decoded, _ = self.code.decode(received.flatten(0, 1), iterations)
        sent = sent[:, : self.code.k]
        information = decoded.reshape(-1, *sent.shape)[:, sent]
        return information[:, :-CRC_LENGTH], crc_holds(information)

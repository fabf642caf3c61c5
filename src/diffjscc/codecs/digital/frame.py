"""Frames: transmission of bytes in K channel uses, with error detection."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from diffjscc.channels.power import normalise_power
from diffjscc.codecs.digital.crc import CRC_LENGTH
from diffjscc.codecs.digital.mcs import ITERATIONS, MCS
from diffjscc.codecs.digital.scrambling import scramble
from diffjscc.codecs.digital.segmentation import Segmentation
from diffjscc.protocols import InfeasibleError


@dataclass(frozen=True)
class Frame:
    """Structure of a frame, determined by K and the MCS and known to both ends.

    Bytes are zero-padded, scrambled, protected by a CRC, coded and mapped to symbols. Bits beyond
    the last codeword repeat the first coded bits; the receiver adds their LLRs.

    Attributes:
        mcs: constellation and channel code.
        channel_uses: K.

    Raises:
        InfeasibleError: K channel uses carry less than a byte.
    """

    mcs: MCS
    channel_uses: int

    def __post_init__(self) -> None:
        fewest = self.needed(self.mcs, 1)
        if self.channel_uses < fewest:
            raise InfeasibleError(
                f"{self.channel_uses:,} channel uses of {self.mcs.name} carry less than a byte and "
                f"its CRC; at least {fewest:,} are needed: raise the rate"
            )

    @classmethod
    def needed(cls, mcs: MCS, data_bytes: int) -> int:
        """Compute the minimum number of channel uses for `data_bytes` bytes."""
        coded_bits = Segmentation(mcs.code, 8 * data_bytes).coded_bits
        return -(-coded_bits // mcs.modulation.bits_per_symbol)

    @property
    def raw_bits(self) -> int:
        """Bits carried by the symbols, coded or repeated."""
        return self.channel_uses * self.mcs.modulation.bits_per_symbol

    @cached_property
    def framing(self) -> Segmentation:
        """Codewords, CRC and shortening."""
        return Segmentation.filling(self.mcs.code, self.raw_bits)

    @property
    def data_bytes(self) -> int:
        """Capacity of the frame in bytes."""
        return self.framing.payload_bits // 8

    @property
    def uses_by_kind(self) -> dict[str, int]:
        """Channel uses by purpose, rounded to integers; they add up to K."""
        payload = self.framing.payload_bits
        ends = [payload, payload + CRC_LENGTH, self.framing.coded_bits]
        per_symbol = self.mcs.modulation.bits_per_symbol
        edges = [0, *(round(end / per_symbol) for end in ends), self.channel_uses]
        kinds = ("payload", "crc", "parity", "repetition")
        return {kind: edges[i + 1] - edges[i] for i, kind in enumerate(kinds)}

    def modulate(self, data: bytes) -> Tensor:
        """Encode and map at most `data_bytes` bytes to unit mean power symbols, complex64 [K]."""
        payload = torch.zeros(1, self.framing.payload_bits, dtype=torch.bool)
        payload[0, : 8 * len(data)] = _to_bits(data)
        coded = self.framing.encode(scramble(payload))[0]
        symbols = self.mcs.modulation.map(coded[self._sources()])
        return normalise_power(symbols[None])[0]

    def demodulate(self, values: Tensor, noise_power: Tensor) -> bytes | None:
        """Demap and decode to the zero-padded bytes; None if the CRC fails.

        Args:
            values: equalised symbols, complex64 [K].
            noise_power: N0/|gain|², float32 [K] or [1].

        Raises:
            ValueError: a symbol is not finite, or a noise power not finite and positive.
        """
        received = self.mcs.modulation.demap(values, noise_power)
        llr = received.new_zeros(self.framing.coded_bits)
        llr.index_add_(0, self._sources().to(llr.device), received)
        payload, intact = self.framing.decode(llr[None], ITERATIONS)
        return _to_bytes(scramble(payload)[0]) if bool(intact) else None

    def _sources(self) -> Tensor:
        """Return the index of the coded bit of each transmitted bit, int64 [raw_bits]."""
        return torch.arange(self.raw_bits) % self.framing.coded_bits


def _to_bits(data: bytes) -> Tensor:
    """Convert bytes to bool [8 · bytes], most significant bit first."""
    return torch.from_numpy(np.unpackbits(np.frombuffer(data, np.uint8)).astype(bool))


def _to_bytes(bits: Tensor) -> bytes:
    """Convert bool [N] to bytes; incomplete ones are dropped."""
    whole = bits[: len(bits) // 8 * 8]
    return np.packbits(whole.cpu().numpy()).tobytes()

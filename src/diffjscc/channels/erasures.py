"""Packet erasures: symbols travel in packets, and what a lost packet held is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from diffjscc.channels.noise import checked_snr, send
from diffjscc.checks import check_number
from diffjscc.symbols import ChannelState, Generators, Received, Symbols


@dataclass(frozen=True)
class ErasureState(ChannelState):
    """A realisation of the channel; `gain` is 1 for each image.

    Attributes:
        seeds: of each image's lost packets, int64 [B]: their number depends on that of symbols.
    """

    seeds: Tensor = field(kw_only=True)

    def select(self, rows: slice | list[int]) -> ErasureState:
        """See `ChannelState.select`."""
        kept = {name: getattr(self, name)[rows] for name in ("gain", "mean_snr_db", "seeds")}
        return replace(self, **kept)


@dataclass(frozen=True)
class Erasures:
    """y_k = e_k·x_k + e_k·n_k, where e is 0 for all symbols of a lost packet and otherwise 1.

    The receiver knows which packets are lost; the transmitter does not. Both ends permute an
    image's symbols before they are packed, always in the same way, so that a lost packet is missed
    a little everywhere.

    Attributes:
        snr_db: Es/N0 in dB of the packets that arrive, one number or float [B].
        probability: of losing a packet, 0 to 1, each by itself.
        packet: symbols in a packet; the last may be shorter.

    Raises:
        ValueError: a setting out of its range.
    """

    snr_db: float | Tensor
    probability: float = 0.1
    packet: int = 64

    def __post_init__(self) -> None:
        check_number(self.probability, "probability")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability is {self.probability}; it must be between 0 and 1")
        if isinstance(self.packet, bool) or not isinstance(self.packet, int) or self.packet < 1:
            raise ValueError(f"packet is {self.packet!r}; give a whole number of symbols above 0")

    @property
    def transmitter_csi(self) -> bool:
        """The transmitter does not know what will be lost."""
        return False

    def sample_state(
        self, batch: int, generator: Generators = None, device: torch.device | str = "cpu"
    ) -> ErasureState:
        """Sample the seed of each image's lost packets."""
        each = generator if isinstance(generator, Sequence) else [generator] * batch
        if len(each) != batch:
            raise ValueError(f"{len(each)} generators for {batch} images; give one or each")
        drawn = [torch.randint(2**62, (1,), generator=g, device=_device(g)) for g in each]
        gain = torch.ones(batch, 1, dtype=torch.complex64, device=device)
        seeds = torch.cat([seed.cpu() for seed in drawn]) if drawn else torch.empty(0).long()
        return ErasureState(gain, checked_snr(self.snr_db, batch, device), seeds=seeds)

    def __call__(
        self, symbols: Symbols, generator: Generators = None, state: ChannelState | None = None
    ) -> Received:
        """Send complex64 [B, K] symbols; see `Channel`.

        Raises:
            ValueError: a state of another channel.
        """
        if state is None:
            state = self.sample_state(len(symbols.values), generator, symbols.values.device)
        if not isinstance(state, ErasureState):
            raise ValueError("this state is of another channel; sample one from this channel")  # noqa: TRY004
        noisy = send(self, symbols, generator, ChannelState(state.gain, state.mean_snr_db)).values
        arrived = self._arrived(state.seeds, symbols.channel_uses).to(noisy.device)
        gain = arrived.to(torch.complex64)
        return symbols.received(noisy * arrived, ChannelState(gain, state.mean_snr_db))

    def _arrived(self, seeds: Tensor, uses: int) -> Tensor:
        """Return whether each symbol arrives, bool [B, K]."""
        packets = -(-uses // self.packet)
        place = torch.randperm(uses, generator=torch.Generator().manual_seed(uses)) // self.packet
        rows = [
            torch.rand(packets, generator=torch.Generator().manual_seed(seed)) >= self.probability
            for seed in seeds.tolist()
        ]
        kept = torch.stack(rows) if rows else torch.ones(0, packets, dtype=torch.bool)
        return kept[:, place]


def _device(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device

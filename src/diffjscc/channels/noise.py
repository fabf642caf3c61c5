"""Random numbers and the transmission equation that all memoryless channels share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffjscc.protocols import Channel
from diffjscc.scheme import as_batch
from diffjscc.symbols import ChannelState, Generators, Received, Symbols


def checked_snr(snr_db: float | Tensor, batch: int, device: torch.device | str = "cpu") -> Tensor:
    """Return Es/N0 in dB, one number or [B], as float32 [B].

    Raises:
        ValueError: an SNR beyond ±200 dB, where float32 runs out, or not finite.
    """
    checked = as_batch(snr_db, batch, device, "snr_db")
    beyond = checked[checked.abs() > 200]
    if len(beyond):
        raise ValueError(f"snr_db is {beyond[0].item():g}; it must be between -200 and 200 dB")
    return checked


def complex_normal(
    shape: tuple[int, int], generator: Generators, device: torch.device | str
) -> Tensor:
    """CN(0, 1): complex64 [B, N], variance 1/2 in each real part.

    Drawn on the generator's own device, so that a CPU generator gives the same numbers on any
    device; with one generator per image, an image's numbers do not depend on its batch.
    """
    batch, length = shape
    if isinstance(generator, Sequence):
        if len(generator) != batch:
            raise ValueError(f"{len(generator)} generators for {batch} images; give one or each")
        rows = [complex_normal((1, length), one, device) for one in generator]
        return torch.cat(rows)
    source = generator.device if generator is not None else device
    values = torch.randn(shape, generator=generator, device=source, dtype=torch.complex64)
    return values.to(device)


def send(
    channel: Channel, symbols: Symbols, generator: Generators, state: ChannelState | None
) -> Received:
    """Receive y = h·x + n, n ~ CN(0, N0), N0 per image; noise does not scale with the fade.

    The channel samples its state unless one is given.
    """
    if state is None:
        state = channel.sample_state(len(symbols.values), generator, symbols.values.device)
    shape = (symbols.values.shape[0], symbols.channel_uses)
    noise = complex_normal(shape, generator, symbols.values.device)
    amplitude = state.noise_power.sqrt()[:, None]
    return symbols.received(state.gain * symbols.values + amplitude * noise, state)

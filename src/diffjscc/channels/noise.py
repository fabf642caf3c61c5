"""Random numbers and the transmission equation that all memoryless channels share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffjscc.scheme import Channel, ChannelState, Generators, Received, Symbols


def noise_power(snr_db: Tensor) -> Tensor:
    """N0 = 10^(-snr_db/10) per complex symbol, for symbols of unit mean power.

    Raises:
        ValueError: an SNR beyond ±200 dB, where float32 runs out.
    """
    beyond = snr_db[snr_db.abs() > 200]
    if len(beyond):
        raise ValueError(f"snr_db is {beyond[0].item():g}; it must be between -200 and 200 dB")
    return torch.pow(10.0, -snr_db / 10)


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

    The channel draws its state unless one is given.
    """
    if state is None:
        state = channel.draw(len(symbols.values), generator, symbols.values.device)
    noise = complex_normal(
        (symbols.values.shape[0], symbols.channel_uses), generator, symbols.values.device
    )
    amplitude = state.noise_power.sqrt()[:, None]
    return Received(
        values=state.gain * symbols.values + amplitude * noise,
        image_size=symbols.image_size,
        nominal_rate=symbols.nominal_rate,
        uses_by_kind=symbols.uses_by_kind,
        delivered=symbols.delivered,
        state=state,
    )

"""Receivers of faded symbols that neural codecs were trained with."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from diffjscc.symbols import SILENCE, ChannelState, Received

Receiver = Literal["equalised", "unequalised", "derotated"]


def check_receiver(receiver: str) -> None:
    """Raise ValueError unless `receiver` is one of `Receiver`."""
    if receiver not in get_args(Receiver):
        known = ", ".join(get_args(Receiver))
        raise ValueError(f"receiver is {receiver!r}; known: {known}")


def as_received(received: Received, receiver: Receiver) -> tuple[Tensor, ChannelState]:
    """Symbols for a decoder that does not equalise, and its CSI, the mean SNR 1/N0.

    Args:
        received: h·x + n, complex64 [B, K].
        receiver: "unequalised" leaves it so; "derotated" takes off the phase alone, |h|·x + n.

    Returns:
        Symbols [B, K], and a channel state of gain 1.
    """
    state, values = received.state, received.values
    if receiver == "derotated":
        values = values * state.gain.conj() / state.gain.abs().clamp(min=SILENCE)
    return values, replace(state, gain=torch.ones_like(state.gain[:, :1]))

"""Equalisation of symbols that have a gain each: one gain and one SNR for all of them is left."""

from __future__ import annotations

import torch
from torch import Tensor

from diffjscc.symbols import LOWEST_SNR_DB, SILENCE, ChannelState

_HIGHEST_SNR_DB = 200.0


def zero_forcing(values: Tensor, state: ChannelState) -> tuple[Tensor, ChannelState]:
    """Divide symbols by their gains; noise of the mean of N0/|h_k|² is left.

    Args:
        values: received symbols, complex64 [B, K].
        state: of the channel, with gain [B, 1] or [B, K].

    Returns:
        Symbols [B, K], 0 where the gain is 0, and the state with the one gain [B, 1] that has the
        SNR which is left. Gain times symbols are what a channel of that state gives.
    """
    noise = state.noise_power[:, None].double() / state.gain.abs().square().double()
    return state.zero_forced(values), _alike(state, -10 * torch.log10(noise.mean(dim=1)))


def mmse(values: Tensor, state: ChannelState) -> tuple[Tensor, ChannelState]:
    """Weigh symbols by conj(h_k)/(|h_k|² + N0), which bounds the noise of faded ones.

    That is w_k·x_k and an error, with w_k = |h_k|²/(|h_k|² + N0); over the mean of w it is x_k and
    an error of the SNR mean(w)/(1 - mean(w)), the effective one of `ChannelState.snr_db`.

    Args:
        values: received symbols, complex64 [B, K].
        state: of the channel, with gain [B, 1] or [B, K].

    Returns:
        See `zero_forcing`.
    """
    snr = state.gain.abs().square().double() / state.noise_power[:, None].double()
    weights = snr / (1 + snr)
    mean = weights.mean(dim=1, keepdim=True).clamp(min=SILENCE)
    return state.zero_forced(values) * (weights / mean).float(), _alike(state, state.snr_db)


def _alike(state: ChannelState, snr_db: Tensor) -> ChannelState:
    """Replace the gains by a single one; the mean SNR, which the transmitter knows, stays."""
    bounded = snr_db.clamp(LOWEST_SNR_DB, _HIGHEST_SNR_DB).to(state.mean_snr_db.dtype)
    gain = torch.pow(10.0, (bounded - state.mean_snr_db) / 20)[:, None].to(state.gain.dtype)
    return ChannelState(gain, state.mean_snr_db, state.transmitter_csi)

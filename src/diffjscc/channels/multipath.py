"""Multipath channels under OFDM: every symbol has the gain of its subcarrier.

Tapped delay lines: of exponential profile, as in Yang, Bian and Kim, "OFDM-guided deep joint source
channel coding for wireless multipath fading channels", IEEE TCCN 2022, and TDL-A to TDL-E of 3GPP
TR 38.901, whose tables are sionna's. The cyclic prefix is taken to be as long as the channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from diffjscc.channels.equalisation import mmse, zero_forcing
from diffjscc.channels.noise import checked_snr, complex_normal
from diffjscc.symbols import ChannelState, Generators, Received, Symbols

Profile = Literal["exponential", "tdl-a", "tdl-b", "tdl-c", "tdl-d", "tdl-e"]
Equaliser = Literal["none", "zf", "mmse"]

_SINUSOIDS = 16  # of a tap that moves; its amplitude is close to Rayleigh's


@dataclass(frozen=True)
class DelayLine:
    """Mean powers and delays of a channel's taps; all powers add up to 1.

    Attributes:
        delays: in samples of the band, float32 [L].
        powers: of the scattered paths, float32 [L].
        line_of_sight: power of a first path that does not fade.
    """

    delays: Tensor
    powers: Tensor
    line_of_sight: float = 0.0


def exponential(taps: int, decay: float) -> DelayLine:
    """Make the profile p_l ∝ exp(-l/decay) of taps one sample apart.

    Raises:
        ValueError: less than a tap, or a decay that is not positive.
    """
    if taps < 1 or not 0 < decay < math.inf:
        raise ValueError(f"taps is {taps} and decay {decay}; give at least 1, and above 0")
    delays = torch.arange(taps, dtype=torch.float32)
    powers = torch.exp(-delays / decay)
    return DelayLine(delays, powers / powers.sum())


@cache
def tapped_delay_line(profile: Profile, spread_ns: float, bandwidth_hz: float) -> DelayLine:
    """Look a profile of TR 38.901 up, scaled to an rms delay spread.

    Raises:
        ValueError: sionna is not installed, or a spread or bandwidth that is not positive.
    """
    if not (0 < spread_ns < math.inf and 0 < bandwidth_hz < math.inf):
        raise ValueError(
            f"delay_spread_ns is {spread_ns} and bandwidth_hz {bandwidth_hz}; both must be above 0"
        )
    try:
        from sionna.phy.channel.tr38901 import TDL  # noqa: PLC0415 - it takes seconds
    except ImportError as error:
        raise ValueError(
            f"{profile} needs the package sionna-no-rt (pip install 'diffjscc[radio]'); or take "
            "the channel ofdm, which has an exponential profile"
        ) from error
    # Its carrier frequency is for Doppler shifts, which are ours.
    model = TDL(profile[-1].upper(), spread_ns * 1e-9, 1e9, device="cpu")
    powers = model.mean_powers.float().clone()
    sight = float(model.mean_power_los) if model.los else 0.0
    powers[0] -= sight
    scale = float(powers.sum()) + sight
    return DelayLine(
        model.delays.float() * bandwidth_hz, powers.clamp(min=0) / scale, sight / scale
    )


@dataclass(frozen=True)
class MultipathState(ChannelState):
    """A realisation of the channel; `gain` is that of its first OFDM symbol, [B, subcarriers].

    Attributes:
        taps: complex64 [B, antennas, L], at the first OFDM symbol; None where they move.
        waves: phases of each tap's sinusoids at the first OFDM symbol, and their steps from one
            OFDM symbol to the next, float32 [B, antennas, L, sinusoids, 2]; None where they rest.
    """

    taps: Tensor | None = None
    waves: Tensor | None = None

    def select(self, rows: slice | list[int]) -> MultipathState:
        """See `ChannelState.select`."""
        taps = None if self.taps is None else self.taps[rows]
        waves = None if self.waves is None else self.waves[rows]
        kept = replace(self, gain=self.gain[rows], mean_snr_db=self.mean_snr_db[rows])
        return replace(kept, taps=taps, waves=waves)


@dataclass(frozen=True)
class Multipath:
    """y = h·x + n with a gain h for every subcarrier, E|h|² = 1 at each antenna.

    Symbol k is sent on subcarrier k mod S of OFDM symbol ⌊k/S⌋. The receiver combines its antennas
    by maximum ratio: h is then the root of the sum of |h_a|². Gradients pass.

    Attributes:
        snr_db: mean Es/N0 in dB at an antenna, one number or float [B].
        profile: of the delays.
        taps, decay: of the exponential profile, in samples.
        delay_spread_ns, bandwidth_hz: of the profiles of TR 38.901; both have no effect on the
            exponential one.
        subcarriers: S.
        doppler: largest Doppler shift in cycles per OFDM symbol; 0: the channel rests during an
            image.
        antennas: of the receiver.
        csi_error: variance of the error of the receiver's knowledge of h, in multiples of N0; 0 is
            perfect, and least squares by one pilot of the symbols' power has 1.
        equaliser: "none" hands symbols and gains to the codec, which weighs them; "zf" and "mmse"
            equalise first, and hand on one gain for all symbols.

    Raises:
        ValueError: a setting out of its range.
    """

    snr_db: float | Tensor
    profile: Profile = "exponential"
    taps: int = 8
    decay: float = 4.0
    delay_spread_ns: float = 100.0
    bandwidth_hz: float = 20e6
    subcarriers: int = 64
    doppler: float = 0.0
    antennas: int = 1
    csi_error: float = 0.0
    equaliser: Equaliser = "none"

    def __post_init__(self) -> None:
        if self.subcarriers < 1 or self.antennas < 1:
            raise ValueError(
                f"subcarriers is {self.subcarriers} and antennas {self.antennas}; give at least 1"
            )
        for name in ("doppler", "csi_error"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; it must be finite and at least 0")
        if self.profile == "exponential":
            exponential(self.taps, self.decay)

    @property
    def transmitter_csi(self) -> bool:
        """The transmitter knows the mean SNR alone."""
        return False

    @property
    def delay_line(self) -> DelayLine:
        """Delays and powers of the profile."""
        if self.profile == "exponential":
            return exponential(self.taps, self.decay)
        return tapped_delay_line(self.profile, self.delay_spread_ns, self.bandwidth_hz)

    def sample_state(
        self, batch: int, generator: Generators = None, device: torch.device | str = "cpu"
    ) -> MultipathState:
        """Sample one realisation per image."""
        snr_db = checked_snr(self.snr_db, batch, device)
        line = self.delay_line
        shape = (batch, self.antennas, len(line.delays))
        count = shape[1] * shape[2]
        if self.doppler == 0:
            values = complex_normal((batch, count + self.antennas), generator, device)
            taps = values[:, :count].reshape(shape) * line.powers.to(device).sqrt()
            taps = taps + self._sight(values[:, count:], line)
            state = MultipathState(values, snr_db, taps=taps)
        else:
            # Angles of Gaussian numbers are uniform.
            drawn = complex_normal((batch, 2 * _SINUSOIDS * count), generator, device).angle()
            phases, angles = drawn.reshape(*shape, 2, _SINUSOIDS).unbind(-2)
            steps = 2 * math.pi * self.doppler * torch.cos(angles)
            waves = torch.stack((phases, steps), dim=-1)
            state = MultipathState(drawn, snr_db, waves=waves)
        first = self._response(state, self.subcarriers)  # and its gain replaces what stands there
        return replace(state, gain=_combined(first, first)[1])

    def __call__(
        self, symbols: Symbols, generator: Generators = None, state: ChannelState | None = None
    ) -> Received:
        """Send complex64 [B, K] symbols; see `Channel`.

        Raises:
            ValueError: a state of another channel.
        """
        values = symbols.values
        if state is None:
            state = self.sample_state(len(values), generator, values.device)
        if not isinstance(state, MultipathState):
            raise ValueError("this state is of another channel; sample one from this channel")  # noqa: TRY004
        uses, batch = symbols.channel_uses, len(values)
        response = self._response(state, uses)
        amplitude = state.noise_power.sqrt()[:, None]
        parts = 1 if self.csi_error == 0 else 2
        drawn = complex_normal((batch, parts * self.antennas * uses), generator, values.device)
        noise = (amplitude * drawn).reshape(batch, parts, self.antennas, uses)
        known = response if parts == 1 else response + math.sqrt(self.csi_error) * noise[:, 1]
        combined, gain = _combined(response * values[:, None] + noise[:, 0], known)
        plain = ChannelState(gain, state.mean_snr_db)
        return symbols.received(*_equalised(combined, plain, self.equaliser))

    def _sight(self, phasors: Tensor, line: DelayLine) -> Tensor:
        """Make the first tap's path that does not fade, complex64 [B, antennas, L]."""
        sight = torch.zeros(*phasors.shape, len(line.delays), dtype=torch.complex64)
        unit = phasors / phasors.abs().clamp(min=1e-12)
        sight[..., 0] = math.sqrt(line.line_of_sight) * unit.cpu()
        return sight.to(phasors.device)

    def _response(self, state: MultipathState, uses: int) -> Tensor:
        """Compute the gain of each symbol at each antenna, complex64 [B, antennas, K]."""
        line = self.delay_line
        spacing = torch.arange(self.subcarriers) / self.subcarriers
        turns = torch.exp(-2j * math.pi * spacing[:, None] * line.delays)  # [S, L]
        blocks = -(-uses // self.subcarriers)
        if state.waves is None:
            assert state.taps is not None
            response = (state.taps @ turns.T.to(state.taps.device)).repeat(1, 1, blocks)
            return response[..., :uses]
        phases, steps = state.waves.unbind(-1)  # [B, antennas, L, sinusoids]
        number = torch.arange(blocks, device=phases.device)
        angle = phases[..., None] + steps[..., None] * number
        moving = torch.polar(torch.ones_like(angle), angle).mean(3) * math.sqrt(_SINUSOIDS)
        taps = moving * line.powers.to(phases.device).sqrt()[:, None]
        # The path that does not fade has a phase, but no shift.
        sight = torch.polar(torch.ones_like(phases[:, :, :1, 0]), phases[:, :, :1, 0])
        first = taps[:, :, :1] + math.sqrt(line.line_of_sight) * sight[..., None]
        taps = torch.cat((first, taps[:, :, 1:]), dim=2)  # [B, antennas, L, blocks]
        response = taps.transpose(2, 3) @ turns.T.to(phases.device)
        return response.flatten(2)[..., :uses]


def _combined(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Combine antennas [B, antennas, K] by maximum ratio; noise keeps its power.

    Returns:
        Combined values and their gain, complex64 [B, K]; one antenna's are as they were.
    """
    if values.shape[1] == 1:
        return values[:, 0], known[:, 0]
    norm = known.abs().square().sum(dim=1).sqrt()
    combined = (known.conj() * values).sum(dim=1) / norm.clamp(min=1e-20)
    return combined, norm.to(torch.complex64)


def _equalised(
    values: Tensor, state: ChannelState, equaliser: Equaliser
) -> tuple[Tensor, ChannelState]:
    """Equalise symbols [B, K], and give them the one gain that has the SNR which is left."""
    if equaliser == "none":
        return values, state
    equal, alike = {"zf": zero_forcing, "mmse": mmse}[equaliser](values, state)
    return alike.gain * equal, alike

"""A channel as users name it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from torch import Tensor

from diffjscc.channels.awgn import AWGN
from diffjscc.channels.fading import Rayleigh, Rician
from diffjscc.choices import ChannelName
from diffjscc.configuration import Section
from diffjscc.scheme import Channel


class ChannelConfig(Section):
    """Which channel, at an SNR that is yet to be said.

    Attributes:
        name: "awgn", or block fading: "rayleigh", "rician".
        k_factor: Rician only: power of the line-of-sight path over that of the scattered ones.
        transmitter_csi: fading only: the transmitter knows the fade before it encodes.
    """

    name: ChannelName = "awgn"
    k_factor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 4.0
    transmitter_csi: bool = False

    @model_validator(mode="after")
    def _possible(self) -> ChannelConfig:
        if self.name == "awgn" and self.transmitter_csi:
            raise ValueError("transmitter_csi needs a fading channel; awgn has no fade to know")
        return self

    @property
    def label(self) -> str:
        """All that tells it from others, such as "rician, K = 4, transmitter CSI"."""
        parts: list[str] = [self.name]
        parts += [f"K = {self.k_factor:g}"] if self.name == "rician" else []
        parts += ["transmitter CSI"] if self.transmitter_csi else []
        return ", ".join(parts)

    def at(self, snr_db: float | Tensor) -> Channel:
        """The channel at a mean Es/N0 in dB, one number or [B]."""
        if self.name == "awgn":
            return AWGN(snr_db)
        if self.name == "rayleigh":
            return Rayleigh(snr_db, transmitter_csi=self.transmitter_csi)
        return Rician(snr_db, self.k_factor, self.transmitter_csi)

"""Configuration of a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import Field, model_validator

from diffjscc.choices import ChannelName, EqualiserName, TDLName
from diffjscc.configuration import Factor, Section
from diffjscc.plugins import Factory, check_import_string, is_import_string

TDLS: tuple[TDLName, ...] = get_args(TDLName)

if TYPE_CHECKING:  # settings are checked before torch is imported
    from torch import Tensor

    from diffjscc.protocols import Channel


# One sentence about each channel.
CHANNELS: Mapping[ChannelName, str] = {
    "awgn": "additive white Gaussian noise",
    "rayleigh": "block Rayleigh fading: one gain for all symbols of an image",
    "rician": "block Rician fading, with --k-factor",
    "erasures": "AWGN whose packets are lost now and then",
    "ofdm": "multipath of exponential profile under OFDM",
    **{name: f"multipath of profile {name.upper()} (3GPP TR 38.901) under OFDM" for name in TDLS},
    "custom": "your own, any class that is called with the SNR in dB",
}


class OFDMOptions(Section):
    """Settings of the channels under OFDM, see `Multipath`.

    Attributes:
        taps, decay: of the channel ofdm, in samples.
        delay_spread_ns, bandwidth_hz: of tdl-a to tdl-e.
        subcarriers: of an OFDM symbol.
        doppler: largest Doppler shift in cycles per OFDM symbol.
        antennas: of the receiver.
        csi_error: variance of the error of the receiver's CSI, in multiples of N0.
        equaliser: "none" leaves it to the codec.
    """

    taps: Annotated[int, Field(ge=1, le=1024)] = 8
    decay: Annotated[float, Field(gt=0, le=1e6)] = 4.0
    delay_spread_ns: Annotated[float, Field(gt=0, le=1e6)] = 100.0
    bandwidth_hz: Annotated[float, Field(gt=0, le=1e12)] = 20e6
    subcarriers: Annotated[int, Field(ge=1, le=65536)] = 64
    doppler: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    antennas: Annotated[int, Field(ge=1, le=64)] = 1
    csi_error: Factor = 0.0
    equaliser: EqualiserName = "none"

    @property
    def label(self) -> str:
        """The settings that differ from the defaults."""
        changed = self.model_dump(exclude_defaults=True)
        return ", ".join(f"{name} = {value}" for name, value in changed.items())


class ErasureOptions(Section):
    """Settings of the channel erasures, see `Erasures`.

    Attributes:
        probability: of losing a packet.
        packet: symbols in a packet.
    """

    probability: Annotated[float, Field(ge=0, le=1)] = 0.1
    packet: Annotated[int, Field(ge=1, le=2**24)] = 64

    @property
    def label(self) -> str:
        """Both settings."""
        return f"{self.probability:.4g} of packets of {self.packet}"


class ChannelConfig(Section):
    """A channel as users name it, at an SNR that is given later.

    Attributes:
        name: "awgn"; block fading: "rayleigh", "rician"; lost packets: "erasures"; multipath under
            OFDM: "ofdm" (exponential profile), "tdl-a" to "tdl-e"; or "custom", what `factory`
            returns.
        k_factor: Rician only: power of the line-of-sight path over that of the scattered ones.
        transmitter_csi: fading only: the transmitter knows the fade before it encodes.
        erasures: settings of the channel of that name.
        ofdm: settings of multipath channels.
        factory: name "custom": import string of a class or function that is called with the SNR in
            dB, one number or [B], and returns a `Channel`.
        args: its further keyword arguments.
    """

    name: ChannelName = "awgn"
    k_factor: Factor = 4.0
    transmitter_csi: bool = False
    erasures: ErasureOptions = ErasureOptions()
    ofdm: OFDMOptions = OFDMOptions()
    factory: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _word(cls, values: Any) -> Any:  # noqa: ANN401 - not yet checked
        return cls.named(values) if isinstance(values, str) else values

    @classmethod
    def named(cls, name: str) -> dict[str, str]:
        """Settings of a channel from one word: a name, or an import string of a custom one."""
        if is_import_string(name):
            return {"name": "custom", "factory": name}
        return {"name": name}

    @model_validator(mode="after")
    def _possible(self) -> ChannelConfig:
        multipath = self.name == "ofdm" or self.name.startswith("tdl-")
        if not multipath and self.ofdm != OFDMOptions():
            raise ValueError(f"ofdm: has no effect on {self.name}; remove it, or name: ofdm")
        if self.name != "erasures" and self.erasures != ErasureOptions():
            raise ValueError(
                f"erasures: has no effect on {self.name}; remove it, or name: erasures"
            )
        if self.name not in ("rayleigh", "rician") and self.transmitter_csi:
            raise ValueError(
                f"transmitter_csi is for fading channels, not for {self.name}"
                + (": a custom channel has its own" if self.name == "custom" else "")
            )
        if (self.name == "custom") != (self.factory is not None):
            problem = "needs a factory" if self.name == "custom" else "takes no factory"
            raise ValueError(
                f"{self.name} {problem}; write name: custom and factory: my_module:MyChannel"
            )
        if self.factory is not None:
            check_import_string(self.factory)
        elif self.args:
            raise ValueError("args are for a factory; remove them, or add factory: my_module:make")
        return self

    @property
    def label(self) -> str:
        """Name and settings, such as "rician, K = 4, transmitter CSI"."""
        parts: list[str] = [self.name if self.factory is None else self.factory]
        parts += [f"K = {self.k_factor:g}"] if self.name == "rician" else []
        parts += [self.erasures.label] if self.name == "erasures" else []
        parts += [self.ofdm.label] if self.ofdm != OFDMOptions() else []
        parts += [f"{name} = {value}" for name, value in self.args.items()]
        parts += ["transmitter CSI"] if self.transmitter_csi else []
        return ", ".join(parts)

    def at(self, snr_db: float | Tensor) -> Channel:
        """Make the channel at a mean Es/N0 in dB, one number or [B].

        Raises:
            ValueError: a factory that cannot be imported or called, or returns something else.
        """
        if self.factory is not None:
            return _custom(Factory(factory=self.factory, args=self.args), snr_db)
        from diffjscc import channels  # noqa: PLC0415 - torch

        csi = self.transmitter_csi
        channel: Channel
        match self.name:
            case "awgn":
                channel = channels.AWGN(snr_db)
            case "rayleigh":
                channel = channels.Rayleigh(snr_db, transmitter_csi=csi)
            case "erasures":
                channel = channels.Erasures(snr_db, **self.erasures.model_dump())
            case "ofdm":
                channel = channels.Multipath(snr_db, **self.ofdm.model_dump())
            case "tdl-a" | "tdl-b" | "tdl-c" | "tdl-d" | "tdl-e":
                channel = channels.Multipath(snr_db, self.name, **self.ofdm.model_dump())
            case _:
                channel = channels.Rician(snr_db, self.k_factor, transmitter_csi=csi)
        return channel


def _custom(factory: Factory, snr_db: float | Tensor) -> Channel:
    channel = factory.make(snr_db)
    needed = ("transmitter_csi", "sample_state", "__call__")
    missing = [name for name in needed if not hasattr(channel, name)]
    if missing:
        raise ValueError(
            f"{factory.factory} gave {type(channel).__name__}, which has no {', '.join(missing)}; "
            "see diffjscc.protocols.Channel"
        )
    made: Channel = channel
    return made

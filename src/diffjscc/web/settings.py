"""Settings of the demo page: checked, in the page's address, and as a command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import Field

from diffjscc.choices import DigitalKind
from diffjscc.configuration import Section, check

FadingName = Literal["awgn", "rayleigh", "rician"]
Rival = Literal["none", DigitalKind]


class DemoSettings(Section):
    """Everything that the images on the page depend on, beside the original.

    Attributes:
        snr: mean Es/N0 in dB.
        rate: nominal rate in channel uses per pixel, one of the weights'.
        channel: AWGN or block fading.
        refine: whether the diffusion receiver runs; without it the codec's image is the last.
        steps: sampling steps from pure noise; None takes the weights' own number.
        rival: digital link to compare with, or "none".
        seed: of noise and fades.
        bandwidth: of the radio channel in kHz, for the airtime.
        example: name of the example image shown, or "" for the user's own.
    """

    snr: Annotated[float, Field(ge=-10, le=25, allow_inf_nan=False)] = 1.0
    rate: str = "1/128"
    channel: FadingName = "awgn"
    refine: bool = True
    steps: Annotated[int, Field(ge=1, le=50)] | None = None
    rival: Rival = "bpg-ldpc"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    bandwidth: Annotated[float, Field(ge=1, le=1e6, allow_inf_nan=False)] = 1000.0
    example: Annotated[str, Field(max_length=40)] = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> DemoSettings:
        """Read the settings in a page's address; others keep their defaults.

        Raises:
            ValueError: a value that breaks its rule.
        """
        known = {name: value for name, value in query.items() if name in cls.model_fields}
        return check(cls, known, "the page's address")

    @property
    def query(self) -> str:
        """The settings that differ from the defaults, for the page's address."""
        return urlencode(self.model_dump(exclude_defaults=True))

    def command(self, name: str) -> str:
        """Write the command that sends the image `name` over the same noise."""
        link = [f"--snr {self.snr:g}", f"--rate {self.rate}", f"--seed {self.seed}"]
        link += [f"--channel {self.channel}"] if self.channel != "awgn" else []
        refiner = [f"--steps {self.steps}"] if self.refine and self.steps is not None else []
        own = "diffjscc" if self.refine else "deepjscc"
        if self.rival != "none":
            refiner = [f"--scheme {own}", f"--scheme {self.rival}", "--downsample", *refiner]
        elif not self.refine:
            refiner = ["--refiner none"]
        words = ["diffjscc transmit", shlex.quote(name), *link, *refiner, "-o out"]
        return " ".join(words)


def airtime_ms(channel_uses: int, bandwidth_khz: float) -> float:
    """Compute the time on air of K symbols at one symbol per second and hertz, in ms."""
    return channel_uses / bandwidth_khz

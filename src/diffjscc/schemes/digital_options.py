"""Options of digital links."""

from __future__ import annotations

from itertools import product
from typing import Annotated, get_args

from pydantic import Field, field_validator

from diffjscc.choices import CodeRateName, ModulationName
from diffjscc.configuration import Section

# As `codecs.digital.mcs` names them.
MCS_NAMES = [
    f"{modulation} {rate}"
    for modulation, rate in product(get_args(ModulationName), get_args(CodeRateName))
]


class DigitalOptions(Section):
    """Settings of a digital link that differ from one that adapts to the SNR, see `SeparateCodec`.

    Attributes:
        mcs: the modulation and code rate, such as "bpsk 2/3"; LDPC only.
        quality: of the source codec, LDPC only: the rate follows, up to the nominal one. Of BPG it
            is 51 - QP.
        downsample: also try a half, a quarter and an eighth of the width and height, and send what
            comes closest to the image. A byte says which.
    """

    mcs: str | None = None
    quality: Annotated[int, Field(ge=0, le=10_000)] | None = None
    downsample: bool = False

    @field_validator("mcs")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in MCS_NAMES:
            known = ", ".join(MCS_NAMES)
            raise ValueError(f"{name!r} is not a modulation and code rate; known: {known}")
        return name

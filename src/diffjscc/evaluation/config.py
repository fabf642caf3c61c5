"""The settings of a sweep: schemes x channels x rates x SNRs x pictures x repeats."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, get_args

from pydantic import Field, field_validator, model_validator

from diffjscc.channels.choice import ChannelChoice
from diffjscc.codecs.digital.choice import LinkOptions
from diffjscc.models.diffjscc import parse_rate
from diffjscc.names import DigitalKind, FeatureName, LPIPSNet, SchemeKind
from diffjscc.painting import PaintingOptions
from diffjscc.settings import Positive, Section

if TYPE_CHECKING:
    from typing_extensions import TypeIs

DDNM_OPTIONS = {"--sampler", "--steps", "--start", "--dtype", "--offload"}
REFINED = ("diffjscc", "ddnm")


def is_digital(kind: SchemeKind) -> TypeIs[DigitalKind]:
    """Whether schemes of this kind are digital links, which have no weights."""
    return kind in get_args(DigitalKind)


class SchemeChoice(Section):
    """A scheme as users name it.

    Attributes:
        kind: "deepjscc" is the codec alone, "diffjscc" the codec with its diffusion receiver,
            "adv" a codec alone that `diffjscc train adversarial` made,
            "ddnm" the same codec and prior as Yilmaz et al. use them, see `refiners.ddnm`.
            "bpg-ldpc", "jpeg-capacity" and so on are digital links, see `codecs.digital`.
        label: what tables and figures call it; its kind without one.
        weights: bundled name, folder or hub id; digital links have none, and for "adv" they
            must be given.
        painting: how the receiver paints, where that differs from what the weights say, or for
            "ddnm" from 100 steps of DDPM.
        link: how a digital link differs from one that adapts to the SNR.
    """

    kind: SchemeKind
    label: str = ""
    weights: str = "compact"
    painting: PaintingOptions = PaintingOptions()
    link: LinkOptions = LinkOptions()

    @property
    def name(self) -> str:
        """What rows call it."""
        return self.label or (f"{self.kind}, downsampled" if self.link.downsample else self.kind)

    @property
    def refined(self) -> bool:
        """Whether a receiver makes the final picture from an initial one."""
        return self.kind in REFINED

    @property
    def draws_samples(self) -> bool:
        """Whether the receiver can paint several pictures from what it received."""
        return self.kind == "diffjscc"

    @model_validator(mode="after")
    def _paints(self) -> SchemeChoice:
        if not self.refined and self.painting.given:
            raise ValueError(
                f"{', '.join(self.painting.given)} tell a receiver how to paint, but {self.kind} "
                "is a codec alone; take the kind diffjscc, or leave painting out"
            )
        if not is_digital(self.kind) and self.link != LinkOptions():
            raise ValueError(
                f"link is for digital schemes such as bpg-ldpc, not for {self.kind}; leave it out"
            )
        if self.kind == "adv" and "weights" not in self.model_fields_set:
            raise ValueError(
                "adv needs weights of its own, and none are bundled; make some with "
                "`diffjscc train adversarial --init compact`, and give their folder as weights"
            )
        beside = set(self.painting.given) - DDNM_OPTIONS
        if self.kind == "ddnm" and beside:
            raise ValueError(
                f"{', '.join(sorted(beside))} are not for ddnm, which knows "
                f"{', '.join(sorted(DDNM_OPTIONS))}"
            )
        return self


class SweepConfig(Section):
    """What `diffjscc evaluate` runs.

    Attributes:
        pictures: files, folders or glob patterns.
        schemes: to be compared; each sends every picture over every channel at every point.
        channels: to send over.
        rates: nominal, in channel uses per pixel.
        snrs_db: mean Es/N0.
        repeats: transmissions per picture and point, each with other noise.
        seed: decides noise and fades: the same for all schemes.
        crop: side of the square in the middle that is taken of each picture, in pixels; None
            takes it whole.
        megapixels: that are received at once, a picture at least. More fills a GPU; in other
            batches figures may differ by rounding, so this is a part of the set-up.
        lpips: its network; None leaves it out.
        niqe: whether it is measured.
        features: networks on whose features distances between sets of patches are measured.
        shown: how many pictures are kept for people to look at, of the first repeat.
        samples: that a receiver paints of each kept picture, for its map of uncertainty; 0: none.
        device: "auto", "cpu", "cuda", …
    """

    pictures: tuple[str, ...] = Field(min_length=1)
    schemes: tuple[SchemeChoice, ...] = Field(min_length=1)
    channels: tuple[ChannelChoice, ...] = Field(default=(ChannelChoice(),), min_length=1)
    rates: tuple[str, ...] = Field(default=("1/128",), min_length=1)
    snrs_db: tuple[Annotated[float, Field(ge=-200, le=200)], ...] = Field(
        default=(1.0,), min_length=1
    )
    repeats: Positive = 1
    seed: Annotated[int, Field(ge=0)] = 0
    crop: Positive | None = None
    megapixels: Annotated[float, Field(gt=0)] = 2.0
    lpips: LPIPSNet | None = "squeeze"
    niqe: bool = True
    features: tuple[FeatureName, ...] = ("squeezenet",)
    shown: Annotated[int, Field(ge=0)] = 3
    samples: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"

    @field_validator("rates")
    @classmethod
    def _rates(cls, rates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(parse_rate(rate)) for rate in rates)

    @model_validator(mode="after")
    def _distinct(self) -> SweepConfig:
        for name, values in (
            ("schemes", [scheme.name for scheme in self.schemes]),
            ("channels", [channel.label for channel in self.channels]),
            ("rates", self.rates),
            ("snrs_db", self.snrs_db),
            ("features", self.features),
        ):
            twice = [str(value) for value, times in Counter(values).items() if times > 1]
            if twice:
                way = "; give each a label of its own" if name == "schemes" else ""
                raise ValueError(f"{name} holds {', '.join(twice)} more than once{way}")
        if self.samples == 1:
            raise ValueError("samples is 1; at least 2 are needed to see where they disagree")
        return self

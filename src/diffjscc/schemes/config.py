"""Configuration of a scheme: its kind, weights and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from pydantic import model_validator

from diffjscc.choices import DigitalKind, SchemeKind
from diffjscc.configuration import Section
from diffjscc.schemes.digital import DigitalOptions
from diffjscc.schemes.options import RefinerOptions

if TYPE_CHECKING:
    from typing_extensions import TypeIs

DDNM_OPTIONS = {"--sampler", "--steps", "--start", "--dtype", "--offload"}
REFINED = ("diffjscc", "ddnm")


def is_digital(kind: SchemeKind) -> TypeIs[DigitalKind]:
    """Whether schemes of this kind are digital links, which have no weights."""
    return kind in get_args(DigitalKind)


class SchemeConfig(Section):
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
    painting: RefinerOptions = RefinerOptions()
    link: DigitalOptions = DigitalOptions()

    @property
    def name(self) -> str:
        """What rows call it."""
        return self.label or (f"{self.kind}, downsampled" if self.link.downsample else self.kind)

    @property
    def refined(self) -> bool:
        """Whether a receiver makes the final image from an initial one."""
        return self.kind in REFINED

    @property
    def draws_samples(self) -> bool:
        """Whether the receiver can paint several images from what it received."""
        return self.kind == "diffjscc"

    @model_validator(mode="after")
    def _paints(self) -> SchemeConfig:
        if not self.refined and self.painting.given:
            raise ValueError(
                f"{', '.join(self.painting.given)} tell a receiver how to paint, but {self.kind} "
                "is a codec alone; take the kind diffjscc, or leave painting out"
            )
        if not is_digital(self.kind) and self.link != DigitalOptions():
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

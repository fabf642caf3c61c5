"""Configuration of a scheme: its kind, weights and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from diffjscc.choices import ConstellationName, SchemeKind
from diffjscc.configuration import Label, Place, Section
from diffjscc.plugins import Factory, check_import_string, is_import_string
from diffjscc.schemes.correction_options import CorrectionOptions
from diffjscc.schemes.digital_options import DigitalOptions
from diffjscc.schemes.feedback_options import FeedbackOptions
from diffjscc.schemes.generator_options import GeneratorOptions
from diffjscc.schemes.kinds import KINDS, SectionName
from diffjscc.schemes.options import RefinerOptions
from diffjscc.schemes.rate_policy import RatePolicyOptions


class SchemeConfig(Section):
    """A scheme as users name it.

    Attributes:
        kind: "deepjscc" is the codec alone, "diffjscc" the codec with its diffusion receiver,
            "adv" a codec alone that `diffjscc train adversarial` made, "ddnm" the same codec and
            prior as Yilmaz et al. use them, see `refiners.ddnm`; "feedback" a codec of several
            rounds that `diffjscc train feedback` made; "isec" the codec with iterative source error
            correction, "generator" with a generator's range as prior; "bpg-ldpc", "jpeg-capacity"
            and so on are digital links, see `codecs.digital`; "custom" is what `factory` returns.
        label: name in tables and figures; the kind without one.
        weights: bundled name, folder or hub id; digital links have none, and for "adv" they
            must be given.
        codec: weights whose codec takes the place of that of `weights`, in front of the receiver
            of those; None leaves it.
        constellation: finite alphabet of the symbols of a neural codec, see
            `codecs.constellations`; None leaves what its weights say.
        refiner: settings of the receiver that differ from those that come with the weights, or
            for "ddnm" from the published ones.
        custom_refiner: refiner of the user's own behind a codec alone; written as
            `refiner: {kind: custom, factory: "my_module:MyRefiner", args: {…}}`.
        feedback: the link back, and what further rounds send, for "feedback".
        correction: settings of source error correction.
        inversion: settings of a generator-prior receiver.
        digital: settings of a digital link that differ from those of one that adapts to the SNR.
        rate_policy: chooses a rate for each image; the nominal rate is then their mean, see
            `RatePolicyOptions`. Without it all images are sent at the nominal rate.
        factory: kind "custom": import string of a callable that returns a `Scheme`; kind
            "generator": of one that returns an `ImageGenerator`.
        args: its keyword arguments.
    """

    kind: SchemeKind
    label: Label = ""
    weights: Place = "compact"
    codec: Place | None = None
    constellation: ConstellationName | None = None
    refiner: RefinerOptions = RefinerOptions()
    custom_refiner: Factory | None = None
    feedback: FeedbackOptions = FeedbackOptions()
    correction: CorrectionOptions = CorrectionOptions()
    inversion: GeneratorOptions = GeneratorOptions()
    digital: DigitalOptions = DigitalOptions()
    rate_policy: RatePolicyOptions | None = None
    factory: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:  # noqa: ANN401 - not yet checked
        if isinstance(values, str):
            return cls.named(values)
        refiner = values.get("refiner") if isinstance(values, Mapping) else None
        if not isinstance(refiner, Mapping) or refiner.get("kind") != "custom":
            return values
        factory = {key: value for key, value in refiner.items() if key != "kind"}
        others = {key: value for key, value in values.items() if key != "refiner"}
        return {**others, "custom_refiner": factory}

    @classmethod
    def named(cls, name: str) -> dict[str, str]:
        """Settings of a scheme from one word: a kind, or an import string of a custom one."""
        if is_import_string(name):
            return {"kind": "custom", "factory": name}
        return {"kind": name}

    @classmethod
    def with_weights(cls, schemes: object, weights: str) -> list[object]:
        """Settings of schemes, not yet checked, with these weights in place of their own."""
        listed = schemes if isinstance(schemes, (list, tuple)) else [schemes]
        named = [cls.named(one) if isinstance(one, str) else one for one in listed]
        return [{**one, "weights": weights} if isinstance(one, dict) else one for one in named]

    @property
    def name(self) -> str:
        """The name in records, tables and figures."""
        kind = self.kind if self.factory is None else self.factory
        kind += ", downsampled" if self.digital.downsample else ""
        kind += self.feedback.label
        kind += "" if self.rate_policy is None else f", {self.rate_policy.label}"
        kind += f", {self.constellation}" if self.constellation is not None else ""
        kind += f" + {self.custom_refiner.factory}" if self.custom_refiner is not None else ""
        return self.label or kind

    @property
    def varies_uses(self) -> bool:
        """Return whether images of one size may take different numbers of channel uses."""
        sent = self.refiner.caption_from == "transmitter"
        return self.digital.quality is not None or self.rate_policy is not None or sent

    @model_validator(mode="after")
    def _sections_are_of_the_kind(self) -> SchemeConfig:
        sections: dict[SectionName, str] = {
            "feedback": "codecs of several rounds (kind: feedback)",
            "correction": "isec",
            "inversion": "generator",
        }
        for name, owner in sections.items():
            section = getattr(self, name)
            if KINDS[self.kind].section != name and section != type(section)():
                raise ValueError(f"{name} is for {owner}, not for {self.kind}; remove it")
        return self

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> SchemeConfig:
        kind = KINDS[self.kind]
        beside = [option for option in self.refiner.given if option not in kind.refiner_options]
        if beside:
            known = ", ".join(sorted(kind.refiner_options)) or "none of them; it has no refiner"
            raise ValueError(f"{', '.join(beside)}: no effect on {self.kind}, which takes {known}")
        if kind.refiner_options and self.custom_refiner is not None:
            raise ValueError(
                f"{self.kind} has a refiner of its own; put yours behind a codec alone, such as "
                "kind: deepjscc"
            )
        if not kind.digital_options and self.digital != DigitalOptions():
            raise ValueError(
                f"digital is for digital links such as bpg-ldpc, not for {self.kind}; remove it"
            )
        if self.rate_policy is not None and self.refiner.caption_from == "transmitter":
            raise ValueError(
                "rate_policy and a caption from the transmitter do not go together; remove one"
            )
        if self.rate_policy is not None and not kind.adapts_rate:
            raise ValueError(
                f"rate_policy is for neural codecs such as deepjscc, not for {self.kind}; remove it"
            )
        if kind.pooling is None and self.constellation is not None:
            raise ValueError(
                f"constellation is for neural codecs such as deepjscc, not for {self.kind}; remove "
                "it (the modulation of a digital link is its mcs)"
            )
        if self.codec is not None and self.kind != "diffjscc":
            raise ValueError(
                f"codec {self.codec} is for diffjscc, whose receiver has other weights; for "
                f"{self.kind} give them as weights"
            )
        if kind.own_weights and "weights" not in self.model_fields_set:
            raise ValueError(
                f"{self.kind} needs weights of its own, and none are bundled; make some with "
                "`diffjscc train adversarial --init compact`, and give their folder as weights"
            )
        if kind.takes_factory != (self.factory is not None):
            problem = "needs a factory" if kind.takes_factory else "takes no factory"
            kinds = self.kind if kind.takes_factory else "custom"
            raise ValueError(
                f"{self.kind} {problem}; write kind: {kinds} and factory: my_module:make"
            )
        if self.factory is not None:
            check_import_string(self.factory)
        elif self.args:
            raise ValueError("args are for a factory; remove them, or add factory: my_module:make")
        return self

"""The one table of scheme kinds: how each is loaded, and which options have an effect on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, cast, get_args

from diffjscc.choices import DigitalKind, SchemeKind
from diffjscc.plugins import Factory
from diffjscc.schemes.options import RefinerOptions, option_name

if TYPE_CHECKING:
    from fractions import Fraction

    from diffjscc.refiners.diffusion import ControlledDiffusion
    from diffjscc.scheme import Scheme
    from diffjscc.schemes.config import SchemeConfig
    from diffjscc.schemes.loader import SchemeLoader

SectionName = Literal["feedback", "correction", "inversion"]
ALL_REFINER_OPTIONS = frozenset(option_name(field.name) for field in fields(RefinerOptions))
DDNM_OPTIONS = frozenset({"--sampler", "--steps", "--start", "--dtype", "--offload"})


@dataclass(frozen=True)
class Kind:
    """A kind of scheme.

    Attributes:
        load: makes a scheme of its config, at a rate.
        description: of the scheme, in one sentence.
        refiner_options: options of `RefinerOptions` that it takes, as the command line spells them.
        digital_options: fields of `DigitalOptions` that it takes.
        section: the section of `SchemeConfig` that is for this kind alone, if there is one.
        pooling: pixels whose mean its codec sends as one: its rates are those of the weights over
            this number; None for schemes without weights, which have other rates.
        own_weights: whether it needs weights of its own, which the config must name.
        takes_factory: whether it is made by a factory of the user's own.
    """

    load: Callable[[SchemeLoader, SchemeConfig, Fraction], Scheme]
    description: str
    refiner_options: frozenset[str] = frozenset()
    digital_options: frozenset[str] = frozenset()
    section: SectionName | None = None
    pooling: int | None = None
    own_weights: bool = False
    takes_factory: bool = False

    @property
    def adapts_rate(self) -> bool:
        """Return whether its codec can be given a rate policy."""
        # Further rounds and receivers that encode know one rate.
        return self.pooling == 1 and self.section is None


def _codec_alone(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    return loader.at_rates(loader.codec_alone(config.weights), config, rate)


def _with_receiver(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    receiver = loader.with_receiver(config.weights, config.refiner)
    if config.codec is None:
        return loader.at_rates(receiver, config, rate)
    front = loader.codec_alone(config.codec).at_rate(rate)
    names = f"{receiver.provenance} behind the codec of {front.provenance}"
    cast("ControlledDiffusion", receiver.refiner).codec = front.codec
    return replace(front, refiner=receiver.refiner, provenance=names)


def _ddnm(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    return loader.ddnm(config.weights, config.refiner).at_rate(rate)


def _feedback(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    return loader.with_feedback(config.weights, config.feedback).at_rate(rate)


def _corrected(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    return loader.corrected(config.weights, config.correction).at_rate(rate)


def _generated(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    assert config.factory is not None
    factory = Factory(factory=config.factory, args=config.args)
    return loader.generated(config.weights, factory, config.inversion).at_rate(rate)


def _digital(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    return loader.digital(config.kind, config.digital, rate)


def _custom(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    assert config.factory is not None
    return loader.custom(config.factory, config.args).at_rate(rate)


def _digital_kinds() -> dict[str, Kind]:
    """Digital links; a capacity-achieving code has neither an MCS nor a quality of its own."""
    codes = {
        "ldpc": ("LDPC and QAM", frozenset({"mcs", "quality", "downsample"})),
        "capacity": ("an ideal code", frozenset({"downsample"})),
    }
    kinds = {}
    for kind in get_args(DigitalKind):
        source, _, code = kind.rpartition("-")
        words, options = codes[code]
        kinds[kind] = Kind(
            _digital, f"{SOURCE_NAMES[source]} over {words}", digital_options=options
        )
    return kinds


SOURCE_NAMES = {
    "bpg": "BPG (HEVC intra, 4:4:4)",
    "bpg-420": "BPG (HEVC intra, 4:2:0)",
    "bpgenc": "BPG by the program bpgenc",
    "jpeg": "JPEG",
    "jpeg2000": "JPEG 2000",
    "webp": "WebP",
    "avif": "AVIF",
}
KINDS: Mapping[SchemeKind | str, Kind] = {
    "deepjscc": Kind(_codec_alone, "the codec alone", pooling=1),
    "diffjscc": Kind(
        _with_receiver,
        "the codec with its diffusion receiver",
        pooling=1,
        refiner_options=ALL_REFINER_OPTIONS,
    ),
    "adv": Kind(_codec_alone, "a codec alone, of `train adversarial`", pooling=1, own_weights=True),
    "ddnm": Kind(
        _ddnm, "means of 2x2 pixels, refined by DDNM", pooling=4, refiner_options=DDNM_OPTIONS
    ),
    "feedback": Kind(
        _feedback,
        "a codec of several rounds with feedback, of `train feedback`",
        pooling=1,
        section="feedback",
    ),
    "isec": Kind(
        _corrected,
        "the codec with iterative source error correction",
        pooling=1,
        section="correction",
    ),
    "generator": Kind(
        _generated,
        "the codec with a generator of your own as prior",
        pooling=1,
        section="inversion",
        takes_factory=True,
    ),
    "custom": Kind(_custom, "your own, any function that makes a Scheme", takes_factory=True),
    **_digital_kinds(),
}

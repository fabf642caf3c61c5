"""The one table of scheme kinds: how each is loaded, and which options have an effect on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, get_args

from diffjscc.choices import DigitalKind, SchemeKind
from diffjscc.schemes.options import RefinerOptions, option_name

if TYPE_CHECKING:
    from fractions import Fraction

    from diffjscc.scheme import Scheme
    from diffjscc.schemes.config import SchemeConfig
    from diffjscc.schemes.loader import SchemeLoader

ALL_REFINER_OPTIONS = frozenset(option_name(field.name) for field in fields(RefinerOptions))
DDNM_OPTIONS = frozenset({"--sampler", "--steps", "--start", "--dtype", "--offload"})


@dataclass(frozen=True)
class Kind:
    """A kind of scheme.

    Attributes:
        load: makes a scheme of its config, at a rate.
        refiner_options: options of `RefinerOptions` that it takes, as the command line spells them.
        digital_options: fields of `DigitalOptions` that it takes.
        pooling: pixels whose mean its codec sends as one: its rates are those of the weights over
            this number; None for schemes without weights, which have other rates.
        own_weights: whether it needs weights of its own, which the config must name.
        takes_factory: whether it is made by a factory of the user's own.
    """

    load: Callable[[SchemeLoader, SchemeConfig, Fraction], Scheme]
    refiner_options: frozenset[str] = frozenset()
    digital_options: frozenset[str] = frozenset()
    pooling: int | None = None
    own_weights: bool = False
    takes_factory: bool = False


def _codec_alone(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    return loader.codec_alone(config.weights).at_rate(rate)


def _with_receiver(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    return loader.with_receiver(config.weights, config.refiner).at_rate(rate)


def _ddnm(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    return loader.ddnm(config.weights, config.refiner).at_rate(rate)


def _digital(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    return loader.digital(config.kind, config.digital, rate)


def _custom(loader: SchemeLoader, config: SchemeConfig, rate: Fraction) -> Scheme:
    assert config.factory is not None
    return loader.custom(config.factory, config.args).at_rate(rate)


def _digital_kinds() -> dict[str, Kind]:
    """Digital links; a capacity-achieving code has neither an MCS nor a quality of its own."""
    ldpc = Kind(_digital, digital_options=frozenset({"mcs", "quality", "downsample"}))
    capacity = Kind(_digital, digital_options=frozenset({"downsample"}))
    return {kind: ldpc if kind.endswith("-ldpc") else capacity for kind in get_args(DigitalKind)}


KINDS: Mapping[SchemeKind | str, Kind] = {
    "deepjscc": Kind(_codec_alone, pooling=1),
    "diffjscc": Kind(_with_receiver, pooling=1, refiner_options=ALL_REFINER_OPTIONS),
    "adv": Kind(_codec_alone, pooling=1, own_weights=True),
    "ddnm": Kind(_ddnm, pooling=4, refiner_options=DDNM_OPTIONS),
    "custom": Kind(_custom, takes_factory=True),
    **_digital_kinds(),
}

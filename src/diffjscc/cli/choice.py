"""Options of `diffjscc transmit` as schemes and operating points; torch is not imported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from diffjscc.choices import QualityEstimate, RefinerName, Resend
from diffjscc.configuration import check, closest
from diffjscc.rate import parse_rate
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.correction_options import CorrectionOptions
from diffjscc.schemes.digital_options import DigitalOptions
from diffjscc.schemes.feedback_options import FeedbackOptions
from diffjscc.schemes.kinds import KINDS
from diffjscc.schemes.options import RefinerOptions, given
from diffjscc.schemes.rate_policy import RatePolicyOptions

SNR_LIMIT = 200.0  # dB, either way


class Point(NamedTuple):
    """A channel, a rate and an SNR that images are sent at.

    Attributes:
        channel: at any SNR.
        rate: nominal, in channel uses per pixel.
        snr_db: mean Es/N0.
        suffix: end of the names of files that distinguishes it from the other points.
    """

    channel: ChannelConfig
    rate: str
    snr_db: float
    suffix: str


class OwnReceiver(NamedTuple):
    """Weights with the receiver that they have.

    Attributes:
        weights: bundled name, folder or hub id.
        refiner: "diffusion" insists on a receiver, "isec" takes source error correction, "none"
            leaves it out.
        samples: for a map of their disagreement; None goes without.
        correction: settings of source error correction, if any are given.
    """

    weights: str
    refiner: RefinerName | None
    samples: int | None
    correction: CorrectionOptions | None = None


def points(
    channels: Sequence[ChannelConfig], rates: Sequence[str], snrs_db: Sequence[float]
) -> list[Point]:
    """Combine channels, rates and SNRs, all with all.

    The suffix names what there are several of, such as "-rate1-64-snr7dB".

    Raises:
        ValueError: a rate is no number, an SNR is beyond ±200 dB, or one is given twice.
    """
    parsed = [str(parse_rate(rate)) for rate in rates]
    for value in snrs_db:
        if not -SNR_LIMIT <= value <= SNR_LIMIT:
            raise ValueError(
                f"--snr is {value:g}; it must be a number from {-SNR_LIMIT:g} to {SNR_LIMIT:g} dB"
            )
    given: tuple[tuple[str, Sequence[object]], ...] = (
        ("--channel", [channel.label for channel in channels]),
        ("--rate", parsed),
        ("--snr", snrs_db),
    )
    for option, values in given:
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"{option} {twice} is given more than once; give each once")
    return [
        Point(
            channel,
            rate,
            snr_db,
            (f"-{_word(channel.label)}" if len(channels) > 1 else "")
            + (f"-rate{_word(rate)}" if len(parsed) > 1 else "")
            + (f"-snr{snr_db:g}dB" if len(snrs_db) > 1 else ""),
        )
        for channel in channels
        for rate in parsed
        for snr_db in snrs_db
    ]


def _word(text: str) -> str:
    """A part of a file's name."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def feedback_options(snr_db: float | None, resend: Resend | None) -> FeedbackOptions:
    """Check options of schemes with feedback; None leaves one at its default."""
    said = given({"snr_db": snr_db, "resend": resend})
    return check(FeedbackOptions, said, "--scheme feedback")


def rate_policy_options(
    estimate: QualityEstimate | None, target_psnr: float | None
) -> RatePolicyOptions | None:
    """Check options of a rate policy; without either there is none."""
    said = given({"estimate": estimate, "target_psnr": target_psnr})
    return check(RatePolicyOptions, said, "--rate-policy") if said else None


def correction_options(denoiser: str | None, iterations: int | None) -> CorrectionOptions | None:
    """Check options of source error correction; None where none is given.

    Raises:
        ValueError: a value out of range.
    """
    said = given({"denoiser": denoiser, "iterations": iterations})
    return check(CorrectionOptions, said, "--refiner isec") if said else None


def choose(
    names: Sequence[str],
    own: OwnReceiver,
    adversarial: str | None,
    refiner: RefinerOptions,
    digital: DigitalOptions,
    feedback: FeedbackOptions,
    policy: RatePolicyOptions | None = None,
) -> list[SchemeConfig]:
    """Configure several schemes, each with those options that have an effect on it.

    Args:
        names: kinds, or import strings of the user's own schemes; none for the weights' own.
        own: its weights are those of all schemes but those that need others.
        adversarial: weights of kinds that need their own.
        refiner: settings of receivers.
        digital: settings of digital links.
        feedback: settings of schemes with feedback.
        policy: settings of a rate policy; None sends all images at the nominal rate.

    Raises:
        ValueError: a kind is unknown or given twice, weights are missing, or an option has no
            effect on any of them.
    """
    if not names:
        _check_without_schemes(adversarial, digital, feedback, policy)
        return []
    if own.refiner is not None or own.samples is not None:
        raise ValueError(
            "--refiner and --uncertainty are for the weights' own receiver; leave them out, or "
            "--scheme"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"--scheme {twice[0]} is given more than once; give each scheme once")
    configs = []
    for name in names:
        named = SchemeConfig.named(name)
        if named["kind"] not in KINDS:
            raise ValueError(f"--scheme {name} is not known; {closest(name, list(KINDS))}")
        kind = KINDS[named["kind"]]
        if kind.own_weights and adversarial is None:
            raise ValueError(
                f"--scheme {name} needs a codec of its own; make one with `diffjscc train "
                "adversarial --init compact`, and give the folder of its weights by --adversarial"
            )
        fitting = digital.model_dump(include=set(kind.digital_options), exclude_unset=True)
        chosen = {"weights": adversarial if kind.own_weights else own.weights} | named
        options: dict[str, object] = {
            "refiner": refiner.only(kind.refiner_options),
            "digital": fitting,
        }
        options["feedback"] = feedback if kind.section == "feedback" else FeedbackOptions()
        options["rate_policy"] = policy if kind.adapts_rate else None
        if own.correction is not None and kind.section == "correction":
            options["correction"] = own.correction.model_dump()
        configs.append(check(SchemeConfig, chosen | options, f"--scheme {name}"))
    effective = {option for config in configs for option in config.refiner.given}
    effective |= {f"--{name}" for config in configs for name in config.digital.model_fields_set}
    effective |= {name for config in configs for name in _given(config.feedback)}
    asked = [*refiner.given, *(f"--{name}" for name in sorted(digital.model_fields_set))]
    asked += _given(feedback)
    if adversarial is not None and not any(KINDS[config.kind].own_weights for config in configs):
        asked.append("--adversarial")
    if policy is not None and not any(config.rate_policy for config in configs):
        asked.append("--rate-policy")
    if own.correction and not any(KINDS[one.kind].section == "correction" for one in configs):
        asked.append("--corrections" if own.correction.denoiser is None else "--denoiser")
    useless = [option for option in asked if option not in effective]
    if useless:
        raise ValueError(
            f"{', '.join(useless)}: no effect on {', '.join(names)}; remove it, or add a scheme "
            "that it is for"
        )
    return configs


def _given(feedback: FeedbackOptions) -> list[str]:
    """Options of schemes with feedback that were given, as the command line spells them."""
    spelt = {"snr_db": "--feedback-snr", "resend": "--resend"}
    return [spelt[name] for name in sorted(feedback.model_fields_set)]


def _check_without_schemes(
    adversarial: str | None,
    digital: DigitalOptions,
    feedback: FeedbackOptions,
    policy: RatePolicyOptions | None,
) -> None:
    """Raise ValueError for an option that is for schemes alone."""
    if policy is not None:
        raise ValueError(
            "--rate-policy and --target-psnr are for schemes; name one, such as --scheme deepjscc"
        )
    if _given(feedback):
        raise ValueError(
            f"{', '.join(_given(feedback))}: for --scheme feedback; add that, or leave it out"
        )
    useless = sorted(digital.model_fields_set)
    if useless:
        raise ValueError(
            f"--{', --'.join(useless)} is for digital links; name one, such as --scheme bpg-ldpc, "
            "or leave it out"
        )
    if adversarial is not None:
        raise ValueError(
            f"--adversarial {adversarial} is for --scheme adv; add that, or give the folder as "
            "--weights"
        )

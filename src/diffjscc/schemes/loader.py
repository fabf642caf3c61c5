"""Schemes by their configs: every set of weights in memory once, no image encoded twice."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from diffjscc.channels.feedback import FeedbackLink
from diffjscc.choices import ConstellationName, DigitalKind, DTypeName, RefinerName
from diffjscc.codecs.adaptive import AdaptiveCodec
from diffjscc.codecs.captioned import CaptionedCodec
from diffjscc.codecs.digital.source_codecs.cached import CachedSource
from diffjscc.codecs.feedback import FeedbackJSCC
from diffjscc.codecs.joint import JointCodec
from diffjscc.codecs.pooled import PooledCodec
from diffjscc.codecs.rate_policy import RatePolicy, Simulation
from diffjscc.plugins import Factory
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.pretrained.hub_ids import is_hub_id
from diffjscc.pretrained.pretrained import bundled_weights, find_weights, open_weights
from diffjscc.pretrained.rate_policy import FILE, read_rate_policy
from diffjscc.protocols import Codec
from diffjscc.rate import Rate, parse_rate
from diffjscc.refiners.devices import Precision
from diffjscc.refiners.widening import WeightStorage
from diffjscc.scheme import Scheme
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.correction_options import CorrectionOptions
from diffjscc.schemes.digital import SOURCES, digital_scheme, source_name
from diffjscc.schemes.digital_options import DigitalOptions
from diffjscc.schemes.feedback_options import FeedbackOptions
from diffjscc.schemes.generator_options import GeneratorOptions
from diffjscc.schemes.kinds import KINDS
from diffjscc.schemes.options import RefinerOptions
from diffjscc.schemes.rate_policy import RatePolicyOptions

if TYPE_CHECKING:  # a codec alone does not wait for diffusers
    from diffjscc.refiners.diffusion import ControlledDiffusion

DTYPES: dict[DTypeName, Precision] = {
    "auto": None,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float16-storage": WeightStorage.FLOAT16,
}


AnyScheme = TypeVar("AnyScheme", bound=Scheme)


class SchemeLoader:
    """Loads schemes and keeps what they share: networks, and coded images of source codecs.

    Args:
        device: where they compute: "auto", "cpu", "cuda", …
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._sources: dict[str, CachedSource] = {}
        self._schemes: dict[tuple[object, ...], Scheme] = {}

    def at(self, config: SchemeConfig, rate: Rate) -> Scheme:
        """Load a scheme at one of its rates; digital links have any.

        Raises:
            ValueError: no such weights, no such rate, weights without a receiver where one is
                asked for, a source codec that is not installed, or a factory that fails.
        """
        try:
            scheme = KINDS[config.kind].load(self, config, parse_rate(rate))
            if config.constellation is not None:
                scheme = quantised(scheme, config.constellation)
            return (
                scheme if config.custom_refiner is None else refined(scheme, config.custom_refiner)
            )
        except ValueError as error:
            if type(error) is not ValueError or str(error).startswith(config.name):
                raise
            raise ValueError(f"{config.name}: {error}") from error

    @staticmethod
    def commit(config: SchemeConfig) -> str | None:
        """Return the commit of weights that come from the hub; None for all others."""
        pooling = KINDS[config.kind].pooling
        if pooling is None or not is_hub_id(config.weights) or Path(config.weights).exists():
            return None
        return find_weights(config.weights).commit

    def codec_alone(self, weights: str) -> Scheme:
        """Load the codec of some weights, at its lowest rate."""
        key = ("codec", weights)
        if key not in self._schemes:
            self._schemes[key] = load_scheme(weights, None, "none", RefinerOptions(), self.device)
        return self._schemes[key]

    def with_feedback(self, weights: str, options: FeedbackOptions) -> Scheme:
        """Load a codec of several rounds; other options share the same networks.

        Raises:
            ValueError: weights of a codec of one round.
        """
        loaded = self.codec_alone(weights)
        if not isinstance(loaded.codec, FeedbackJSCC):
            raise ValueError(  # noqa: TRY004 - the weights are wrong, not the call
                f'weights "{weights}" hold {type(loaded.codec).__name__}, a codec of one round; '
                "make one of several with `diffjscc train feedback`, and give its folder"
            )
        codec = loaded.codec.over(FeedbackLink(options.snr_db), options.chosen)
        return replace(loaded, codec=codec, provenance=f"{loaded.provenance}{options.label}")

    def with_receiver(self, weights: str, options: RefinerOptions) -> Scheme:
        """Load a codec and its diffusion receiver; other options share the same networks."""
        key = ("receiver", weights, options.dtype, options.offload)
        if key not in self._schemes:
            loading = RefinerOptions(dtype=options.dtype, offload=options.offload)
            self._schemes[key] = load_scheme(weights, None, "diffusion", loading, self.device)
        loaded = self._schemes[key]
        refiner = copy.copy(loaded.refiner)
        options.apply(cast("ControlledDiffusion", refiner))
        return _describing(replace(loaded, refiner=refiner), options)

    @staticmethod
    def at_rates(scheme: Scheme, config: SchemeConfig, rate: Fraction) -> Scheme:
        """Set a scheme to one rate, or to a policy that chooses a rate for each image.

        Raises:
            ValueError: it has no such rate, or no table for a policy.
        """
        if config.rate_policy is None:
            return scheme.at_rate(rate)
        folder = find_weights(config.weights).folder
        return with_rate_policy(scheme, config.rate_policy, rate, folder)

    def ddnm(self, weights: str, options: RefinerOptions) -> Scheme:
        """Load DDNM on some weights' codec and prior."""
        from diffjscc.pretrained.ddnm import ddnm_from_pretrained  # noqa: PLC0415 - diffusers
        from diffjscc.refiners.config import DiffusionConfig  # noqa: PLC0415
        from diffjscc.refiners.ddnm import DDNMConfig  # noqa: PLC0415

        key = ("ddnm", weights, options)
        if key not in self._schemes:
            own = DiffusionConfig(sampler=DDNMConfig().sampler)
            self._schemes[key] = ddnm_from_pretrained(
                weights,
                config=DDNMConfig(sampler=options.config(own).sampler),
                device=self.device,
                dtype=DTYPES[options.dtype],
                offload=options.offload,
            )
        return self._schemes[key]

    def corrected(self, weights: str, options: CorrectionOptions) -> Scheme:
        """Load a codec with iterative source error correction."""
        key = ("isec", weights, options)
        if key not in self._schemes:
            self._schemes[key] = with_correction(self.codec_alone(weights), weights, options)
        return self._schemes[key]

    def generated(self, weights: str, factory: Factory, options: GeneratorOptions) -> Scheme:
        """Load a codec with a generator of the user's own as its receiver's prior."""
        key = ("generator", weights, factory.factory, repr(sorted(factory.args.items())), options)
        if key not in self._schemes:
            self._schemes[key] = with_generator(self.codec_alone(weights), factory, options)
        return self._schemes[key]

    def digital(self, kind: str, options: DigitalOptions, rate: Fraction) -> Scheme:
        """Make a digital link; links of one source codec share what it has coded."""
        link = cast(DigitalKind, kind)
        name = source_name(link)
        if name not in self._sources:
            self._sources[name] = CachedSource(SOURCES[name]())
        return digital_scheme(link, rate, options, self._sources[name])

    def custom(self, factory: str, args: Mapping[str, Any]) -> Scheme:
        """Call the user's factory, which returns a scheme at any of its rates.

        Raises:
            ValueError: it cannot be imported or called, or returns something else.
        """
        key = ("custom", factory, repr(sorted(args.items())))
        if key not in self._schemes:
            made = Factory(factory=factory, args=dict(args)).make()
            if not isinstance(made, Scheme):
                raise ValueError(
                    f"{factory} returned {type(made).__name__}; it must return a diffjscc.Scheme"
                )
            if not made.provenance:
                made = replace(made, provenance=f"{factory}({_arguments(args)})")
            self._schemes[key] = made
        return self._schemes[key]


def with_rate_policy(
    scheme: Scheme, options: RatePolicyOptions, rate: Rate, folder: Path
) -> Scheme:
    """Let a neural codec choose the rate of each image.

    Args:
        scheme: with the codec, of several rates.
        options: of the policy.
        rate: mean rate of photographs; with a target quality the highest.
        folder: of the codec's weights, for the policy's table.

    Raises:
        ValueError: a codec of the user's own, a table that is missing or of other rates, or a
            nominal rate beyond the codec's.
    """
    if not isinstance(scheme.codec, JointCodec):
        raise ValueError(  # noqa: TRY004 - a setting, not a wrong call
            f"a rate policy is for the codecs of this package, not for "
            f"{type(scheme.codec).__name__}; remove rate_policy"
        )
    table = folder / FILE if options.table is None else Path(options.table)
    predictor, mean = read_rate_policy(table), parse_rate(rate)
    estimate = predictor if options.estimate == "predict" else Simulation(scheme.codec)
    policy = RatePolicy(estimate, predictor, options.target_psnr)
    codec = AdaptiveCodec(scheme.codec, policy, (mean,))
    provenance = f"{scheme.provenance}, {options.label} by {predictor.digest}"
    return Scheme(codec, mean, scheme.refiner, provenance)


def refined(scheme: Scheme, factory: Factory) -> Scheme:
    """Put a refiner of the user's own behind a codec alone.

    Raises:
        ValueError: the factory cannot be imported or called, or gives no refiner.
    """
    refiner = factory.make()
    if not hasattr(refiner, "refine"):
        raise ValueError(
            f"{factory.factory} gave {type(refiner).__name__}, which has no refine; see "
            "diffjscc.Refiner"
        )
    call = f"{factory.factory}({_arguments(factory.args)})"
    return replace(scheme, refiner=refiner, provenance=f"{scheme.provenance} + {call}")


def quantised(scheme: Scheme, constellation: ConstellationName) -> Scheme:
    """Put the symbols of a scheme's codec on a constellation, see `codecs.constellations`.

    Raises:
        ValueError: the codec is not one of the package's neural codecs.
    """
    provenance = f"{scheme.provenance}, {constellation}"
    return replace(encoding_with(scheme, _on(scheme.codec, constellation)), provenance=provenance)


def encoding_with(scheme: Scheme, codec: Codec) -> Scheme:
    """Replace a scheme's codec, also for a refiner that encodes with it."""
    refiner: Any = scheme.refiner
    if getattr(refiner, "codec", None) is not None:
        refiner = copy.copy(refiner)
        refiner.codec = codec
    return replace(scheme, codec=codec, refiner=refiner)


def _on(codec: Codec, constellation: ConstellationName) -> Codec:
    if isinstance(codec, PooledCodec):
        return replace(codec, codec=_on(codec.codec, constellation))
    if not isinstance(codec, JointCodec):
        raise ValueError(  # noqa: TRY004 - a broken config, not a wrong call
            f"constellation {constellation} is for the package's neural codecs; "
            f"{type(codec).__name__} has symbols of its own"
        )
    other = copy.copy(codec)  # shares the networks
    other.config = replace(codec.config, constellation=constellation)
    return other


def with_correction(scheme: Scheme, weights: str | Path, options: CorrectionOptions) -> Scheme:
    """Put iterative source error correction behind a codec alone.

    Args:
        scheme: the codec.
        weights: its weights, whose prior is used where `options` name no denoiser.
        options: settings.

    Raises:
        ValueError: no such denoiser, or no prior.
    """
    # Imported here: a codec alone does not wait for diffusers.
    from diffjscc.pretrained.correction import load_source_prior  # noqa: PLC0415
    from diffjscc.refiners.source_correction import (  # noqa: PLC0415
        CorrectionConfig,
        SourceErrorCorrection,
    )

    prior, name = load_source_prior(weights, options.denoiser, options.level, scheme.device)
    config = CorrectionConfig(options.iterations, options.prior_power, options.strength)
    refiner = SourceErrorCorrection(scheme.codec, prior, config)
    return replace(scheme, refiner=refiner, provenance=f"{scheme.provenance} + isec({name})")


def with_generator(scheme: Scheme, factory: Factory, options: GeneratorOptions) -> Scheme:
    """Put a receiver with a generator as its prior behind a codec alone.

    Raises:
        ValueError: the factory cannot be imported or called, or gives no generator.
        MetricUnavailable: LPIPS has a weight, and its network cannot be had.
    """
    # Imported here: a codec alone waits for neither.
    from diffjscc.metrics.lpips import LPIPS  # noqa: PLC0415
    from diffjscc.refiners.generator_prior import (  # noqa: PLC0415
        GeneratorConfig,
        GeneratorInversion,
        ImageGenerator,
    )

    generator = factory.make()
    if not isinstance(generator, ImageGenerator):
        raise ValueError(  # noqa: TRY004 - as for all that users name
            f"{factory.factory} gave {type(generator).__name__}, which lacks latents or a call; "
            "see diffjscc.refiners.generator_prior.ImageGenerator"
        )
    if isinstance(generator, torch.nn.Module):
        generator.to(scheme.device).eval().requires_grad_(False)
    lpips = LPIPS.load("squeeze").to(scheme.device).distance if options.lpips else None
    config = GeneratorConfig(**options.model_dump())
    refiner = GeneratorInversion(scheme.codec, generator, config, lpips)
    call = f"{factory.factory}({_arguments(factory.args)})"
    return replace(scheme, refiner=refiner, provenance=f"{scheme.provenance} + {call}")


def load_scheme(
    source: str | Path,
    rate: Rate | None,
    refiner: RefinerName | None,
    options: RefinerOptions,
    device: str = "auto",
    correction: CorrectionOptions | None = None,
) -> Scheme:
    """Load weights, with their diffusion receiver or without, and set the latter up.

    Args:
        source: see `DiffJSCC.from_pretrained`, as for `rate` and `device`.
        rate: nominal rate in cpp.
        refiner: "diffusion" insists on a receiver, "isec" takes source error correction in its
            place, "none" leaves it out, and None takes it where the weights have one.
        options: settings of the receiver.
        device: where to compute.
        correction: settings of source error correction.

    Raises:
        ValueError: whatever is wrong with the weights or the options.
    """
    weights = open_weights(source)
    refined = refiner not in ("isec", "none") and weights.has_refiner
    if correction is not None and refiner != "isec":
        raise ValueError(
            "--denoiser and --corrections are for source error correction; add --refiner isec, or "
            "leave them out"
        )
    if refiner == "diffusion" and not refined:
        raise ValueError(f'weights "{source}" have no diffusion receiver; {_weights_that_have()}')
    if options.given and not refined:
        listed = ", ".join(options.given)
        if refiner in ("isec", "none"):
            raise ValueError(
                f"{listed}: options of the diffusion receiver, which --refiner {refiner} leaves "
                "out; remove one or the other"
            )
        raise ValueError(
            f'{listed}: options of the diffusion receiver, but weights "{source}" have none; '
            f"{_weights_that_have()}"
        )
    if not refined:
        alone = DiffJSCC.from_pretrained(weights, rate, refiner=None, device=device)
        if refiner == "isec":
            return with_correction(alone, source, correction or CorrectionOptions())
        return alone
    options.check()  # says what is out of range before gigabytes are read
    scheme = DiffJSCC.from_pretrained(
        weights, rate, device=device, dtype=DTYPES[options.dtype], offload=options.offload
    )
    options.apply(cast("ControlledDiffusion", scheme.refiner))
    return _describing(scheme, options)


def _describing(scheme: AnyScheme, options: RefinerOptions) -> AnyScheme:
    """Move a receiver's captioner to the transmitter, if the options ask for that, in place.

    Raises:
        ValueError: a codec of the user's own.
    """
    refiner = cast("ControlledDiffusion", scheme.refiner)
    captioner = refiner.captioner
    if options.caption_from == "receiver" or captioner is None:
        return scheme
    if not isinstance(scheme.codec, JointCodec):
        raise ValueError(  # noqa: TRY004 - a setting, not a wrong call
            f"--caption-from transmitter is for the codecs of this package, not for "
            f"{type(scheme.codec).__name__}; remove it"
        )
    refiner.captioner = None
    return replace(scheme, codec=CaptionedCodec(scheme.codec, captioner))


def _weights_that_have() -> str:
    """Name sources of weights with a diffusion receiver, for errors."""
    having = [name for name in bundled_weights() if find_weights(name).has_refiner]
    bundled = f"take bundled ones that do ({', '.join(having)}) or " if having else "take "
    return (
        f"{bundled}the paper's: --weights Mingyuyang/DiffJSCC-OpenImage-CBR-1-384 (7 GB, once), or "
        "a folder that `diffjscc convert` made of them"
    )


def _arguments(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in args.items())

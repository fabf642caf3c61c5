"""Options of the diffusion receiver that differ from what its weights say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from diffjscc.choices import CaptionEnd, CaptionerName, ColourFix, DTypeName, SamplerName, Start

if TYPE_CHECKING:  # options are checked before torch is imported
    from diffjscc.refiners.captions import Captioner
    from diffjscc.refiners.config import DiffusionConfig
    from diffjscc.refiners.diffusion import ControlledDiffusion

MOST_STEPS = 1000  # those of the prior's noise schedule
LARGEST_SCALE = 1e6


def option_name(field: str) -> str:
    """Spelling of a field of `RefinerOptions` on the command line."""
    return "--steps" if field == "num_inference_steps" else f"--{field.replace('_', '-')}"


@dataclass(frozen=True)
class RefinerOptions:
    """Settings of the diffusion receiver that differ from those that come with its weights.

    Attributes:
        sampler, num_inference_steps, start: see `SamplerConfig`; None, here and below, leaves the
            weights' own.
        captioner: "blip2" describes initial images, "none" gives empty captions.
        caption: the user's own words, in place of a captioner.
        caption_from: end at which images are described. The "receiver" sees the initial image;
            the "transmitter" sees the original and sends the caption in a strong digital code,
            which counts.
        latent_guidance_scale: Λ of `GuidanceConfig`.
        likelihood_guidance_scale: ρ of `LikelihoodConfig`.
        likelihood_blind: estimate the noise power that weighs the likelihood, see there.
        colour_fix, control_scale, control_guidance_scale: see `DiffusionConfig`.
        full_strength: generate also where the weights' table says that it does not help.
        dtype: of the receiver's weights; "auto" is bfloat16 on CUDA and float32 elsewhere,
            "float16-storage" stores float16 and computes in float32.
        offload: keep each network on the CPU while others compute.

    Raises:
        ValueError: a caption and a captioner, steps outside 1 to 1000, or a scale outside 0 to
            1e6.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    sampler: SamplerName | None = None
    num_inference_steps: int | None = None
    start: Start | None = None
    captioner: CaptionerName | None = None
    caption: str | None = None
    caption_from: CaptionEnd = "receiver"
    latent_guidance_scale: float | None = None
    likelihood_guidance_scale: float | None = None
    likelihood_blind: bool = False
    colour_fix: ColourFix | None = None
    control_scale: float | None = None
    control_guidance_scale: float | None = None
    full_strength: bool = False
    dtype: DTypeName = "auto"
    offload: bool = False

    def __post_init__(self) -> None:
        if self.caption is not None and self.captioner is not None:
            raise ValueError(
                f"--caption {self.caption!r} and --captioner {self.captioner} exclude each other; "
                "give one of them"
            )
        if (
            self.caption_from == "transmitter"
            and self.caption is None
            and (self.captioner in (None, "none"))
        ):
            raise ValueError(
                "--caption-from transmitter has no caption to send; add --caption TEXT or "
                "--captioner blip2"
            )
        scales = ("latent_guidance_scale", "likelihood_guidance_scale")
        for name in (*scales, "control_scale", "control_guidance_scale"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= LARGEST_SCALE:
                raise ValueError(
                    f"{option_name(name)} is {value}; it must be a number from 0 to "
                    f"{LARGEST_SCALE:,.0f}"
                )
        if self.num_inference_steps is not None and not 1 <= self.num_inference_steps <= MOST_STEPS:
            raise ValueError(
                f"--steps is {self.num_inference_steps}; it must be a number from 1 to {MOST_STEPS}"
            )

    @property
    def given(self) -> list[str]:
        """The options, as the command line spells them, that are not at their defaults."""
        return [
            option_name(field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]

    def only(self, options: frozenset[str]) -> RefinerOptions:
        """Keep some of the options, as the command line spells them; the others stay unset."""
        return RefinerOptions(
            **{
                field.name: getattr(self, field.name)
                for field in fields(self)
                if option_name(field.name) in options
            }
        )

    def config(self, own: DiffusionConfig, distilled_steps: int | None = None) -> DiffusionConfig:
        """Replace the weights' own settings by these.

        Args:
            own: the weights' settings.
            distilled_steps: steps of the weights' distilled control module, if they have one:
                it samples in so many steps of DDIM from the weights' own start, and the guided
                one in all other cases.

        Raises:
            ValueError: a value out of range.
        """
        sampler = given({"name": self.sampler, "start": self.start})
        steps = self.num_inference_steps
        few = (
            distilled_steps is not None
            and (own.sampler.distilled_steps if steps is None else steps) == distilled_steps
            and self.sampler in (None, "ddim")
            and self.start in (None, own.sampler.start)
        )
        sampler["distilled_steps"] = distilled_steps if few else None
        if steps is not None and not few:
            sampler["num_inference_steps"] = steps
        scales = {
            "colour_fix": self.colour_fix,
            "control_scale": self.control_scale,
            "control_guidance_scale": self.control_guidance_scale,
        }
        guidance = {"scale": self.latent_guidance_scale}
        likelihood = {
            "scale": self.likelihood_guidance_scale,
            "blind": self.likelihood_blind or None,
        }
        return replace(
            own.at_full_strength if self.full_strength else own,
            sampler=replace(own.sampler, **sampler),
            latent_guidance=replace(own.latent_guidance, **given(guidance)),
            likelihood=replace(own.likelihood, **given(likelihood)),
            **given(scales),
        )

    def check(self) -> None:
        """Raise ValueError where a value is out of range."""
        from diffjscc.refiners.config import DiffusionConfig  # noqa: PLC0415 - diffusers

        self.config(DiffusionConfig())

    def apply(self, refiner: ControlledDiffusion) -> None:
        """Apply these settings to a receiver, in place.

        Raises:
            ValueError: captions for a prior that reads none, without a vocabulary, or by a
                captioner that cannot be had.
        """
        refiner.config = self.config(refiner.config, refiner.denoiser.distilled_steps)
        if self.captioner == "none":
            refiner.captioner = None
        elif self.captioner == "blip2" or self.caption is not None:
            refiner.captioner = self._captioner(refiner)

    def _captioner(self, refiner: ControlledDiffusion) -> Captioner:
        """Make the captioner; the prior must be able to read its captions."""
        from diffjscc.refiners.captions import (  # noqa: PLC0415 - torch
            Blip2Captioner,
            CaptionerError,
            FixedCaption,
        )

        option = "--captioner blip2" if self.caption is None else "--caption"
        if refiner.text is None:
            raise ValueError(
                f"{option} was given, but the prior of these weights reads no text; remove it"
            )
        refiner.text.tokens(["an image" if self.caption is None else self.caption])
        if self.caption is not None:
            return FixedCaption(self.caption)
        try:
            return Blip2Captioner.from_pretrained(dtype=refiner.denoiser.unet.dtype)
        except CaptionerError as error:
            raise ValueError(f"{error}: --captioner none, or --caption TEXT") from error


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that the user gave: those that are not None."""
    return {name: value for name, value in values.items() if value is not None}

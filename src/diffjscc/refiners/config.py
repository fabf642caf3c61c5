"""Settings of the diffusion receiver."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import get_args

from diffjscc.choices import ColourFix, Geometry
from diffjscc.refiners.guidance import GuidanceConfig
from diffjscc.refiners.likelihood import LikelihoodConfig
from diffjscc.refiners.sampling import ByBits, SamplerConfig, at_bits, check_by_bits

FULL: ByBits = ((1.0, 1.0),)  # strength that is 1 whatever the capacity


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings of `ControlledDiffusion`.

    Attributes:
        sampler: sampler, number of steps and start.
        latent_guidance: latent guidance; disabled by default, as in the paper.
        likelihood: channel-likelihood guidance; disabled by default.
        colour_fix: correction of the colours: "wavelet" and "adain" take those of the initial
            image, "none" keeps those of the prior.
        detail: fraction in [0, 1] of the detail lost by the VAE in the initial image that is
            added to the final image, over the channel capacity per pixel: (bits per pixel,
            fraction), see `sampling.at_bits`. 0, as in the paper, suits a VAE that keeps more
            detail than the channel conveys; with a small VAE, images from good links would
            otherwise get worse.
        control_scale: factor on the control module's residuals; 0 disables it.
        control_guidance_scale: w of ε = ε_prior + w (ε_controlled - ε_prior): classifier-free
            guidance (Ho and Salimans, arXiv 2207.12598) with the control module's residuals as
            the condition. 1, as in the paper, disables it; any other value runs the prior twice
            per step.
        decode_noise: standard deviation in [0, 1] of the noise added to a sampled latent before
            it is decoded (latents have a standard deviation of about 1), over the channel
            capacity per pixel: (bits per pixel, deviation), as `detail`. For VAEs whose decoder
            was trained to turn it into grain. On poor links, areas without information have
            nearly constant latents; without noise a small decoder repeats one texture there.
        texture_span: log2 of local deviations in levels of 255, (low, high), or None. Where the
            received texture map is below `low`, the latent of the initial image is decoded, above
            `high` the sampled one, in between a mixture, see `refiners.texture`. It has no effect
            without a map; None, as in the paper, ignores it.
        texture_margin: octaves by which the local deviation of the final image's fine scales may
            exceed the received texture map; what is more is attenuated. It has no effect without a
            map; None, as in the paper, sets no limit.
        missing_span: octaves by which the received texture map exceeds the local deviation of the
            initial image's fine scales, (low, high), or None. Where less than `low` is missing,
            the initial image is final, where more than `high`, the generated one, in between a
            mixture. It has no effect without a map; None, as in the paper, generates everywhere.
        strength: factor in [0, 1] on the start level, over the channel capacity per pixel, as
            `detail`. Where it is 0 the initial image is kept: there generating breaks as much as
            it repairs, which `diffjscc calibrate receiver` measures. With start "noise" any other
            factor counts as 1. It is of plain sampling: guidance by the likelihood ignores it.
        clamp_snr: whether the control module is conditioned on the nearer end of its range of
            training in place of an SNR outside it. False for converted weights: the released code
            does not clamp.
        geometry: "reflect" pads by reflection to multiples of the networks' strides. "released"
            does as the released code: short sides below 512 are enlarged, and padding is black.
        tile: side of a tile in latent positions; latents of more than `tile`² positions are
            processed in tiles.
    """

    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    latent_guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    likelihood: LikelihoodConfig = field(default_factory=LikelihoodConfig)
    colour_fix: ColourFix = "wavelet"
    detail: ByBits = ((1.0, 0.0),)
    control_scale: float = 1.0
    control_guidance_scale: float = 1.0
    decode_noise: ByBits = ((1.0, 0.0),)
    texture_span: tuple[float, float] | None = None
    texture_margin: float | None = None
    missing_span: tuple[float, float] | None = None
    strength: ByBits = FULL
    clamp_snr: bool = True
    geometry: Geometry = "reflect"
    tile: int = 128

    def __post_init__(self) -> None:
        for name, kind in (("colour_fix", ColourFix), ("geometry", Geometry)):
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ValueError(f"{name} is {getattr(self, name)!r}; known: {known}")
        check_by_bits("detail", self.detail)
        check_by_bits("decode_noise", self.decode_noise)
        check_by_bits("strength", self.strength)
        for name in ("texture_span", "missing_span"):
            span = getattr(self, name)
            if span is not None and not -math.inf < span[0] < span[1] < math.inf:
                raise ValueError(f"{name} is {span}; give two ascending numbers, or null")
        if self.texture_margin is not None and not math.isfinite(self.texture_margin):
            raise ValueError(
                f"texture_margin is {self.texture_margin}; give a finite number, or null"
            )
        for name in ("texture_span", "texture_margin", "missing_span"):
            value = getattr(self, name)
            if value is not None and self.geometry != "reflect":
                raise ValueError(
                    f'{name} is {value} and geometry "{self.geometry}"; a texture map needs the '
                    'geometry "reflect"'
                )
        if self.tile < 8:
            raise ValueError(f"tile is {self.tile} latent positions; it must be at least 8")

    @property
    def at_full_strength(self) -> DiffusionConfig:
        """The same settings at strength 1, whatever the capacity."""
        return replace(self, strength=FULL)

    def start_level(self, bits: float) -> float:
        """Compute the start level of an image with a capacity of `bits` per pixel."""
        measured = FULL if self.likelihood.scale > 0 else self.strength
        factor, level = at_bits(measured, bits), self.sampler.start_level(bits)
        return level * factor if self.sampler.start == "initial" or factor == 0 else level

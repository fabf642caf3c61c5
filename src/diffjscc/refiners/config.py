"""The settings of the diffusion receiver in one object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from diffjscc.names import ColourFix, Geometry
from diffjscc.refiners.guidance import GuidanceConfig
from diffjscc.refiners.sampling import ByBits, SamplerConfig, check_by_bits


@dataclass(frozen=True)
class DiffusionConfig:
    """How `ControlledDiffusion` paints.

    Attributes:
        sampler: sampler, steps and start.
        guidance: latent guidance; none by default, as in the paper.
        colour_fix: whose colours the picture gets: "wavelet" and "adain" take the initial
            picture's, "none" leaves the prior's.
        detail: what part of the detail that the VAE loses of the initial picture is given back to
            the final one, in [0, 1]: (bits per pixel, part), see `sampling.at_bits`. None, as in
            the paper, is right where the VAE keeps more than the link tells; a small VAE would
            otherwise make pictures from good links worse.
        strength: factor on the control module's residuals; 0 is the prior alone.
        control_guidance: w of ε = ε_prior + w (ε_controlled - ε_prior): classifier-free guidance
            (Ho and Salimans, arXiv 2207.12598) with what the control module says as the condition.
            1, as in the paper, is none; any other runs the prior twice a step.
        decode_noise: standard deviation of the noise that a sampled latent gets before it is
            decoded, in [0, 1], where latents deviate by about 1: (bits per pixel, deviation), as
            `detail`. For VAEs whose decoder was trained to make grain of it. Without any, a small
            decoder paints areas of which a poor link told nothing, and whose latent cells are
            alike, with one texture over and over.
        clamp_snr: whether the control module is told the nearer end of its trained range in place
            of an SNR outside it. Converted weights are told any SNR, as by the released code.
        geometry: "reflect" pads to what the networks' strides need. "released" does as the
            released code: a short side under 512 is enlarged, and padding is black.
        tile: latent cells per side; latents of more than `tile`² cells are worked on in tiles.
    """

    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    colour_fix: ColourFix = "wavelet"
    detail: ByBits = ((1.0, 0.0),)
    strength: float = 1.0
    control_guidance: float = 1.0
    decode_noise: ByBits = ((1.0, 0.0),)
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
        if self.tile < 8:
            raise ValueError(f"tile is {self.tile} latent cells; it must be at least 8")

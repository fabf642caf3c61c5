"""The classes of diffusers that receivers are built of, imported without the rest of that library.

diffusers' packages import each of their networks, and with them transformers, accelerate,
scipy.stats and torch's compiler, which together takes three times as long as importing torch.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from typing import Any

from diffjscc.deferred import put_off

__all__ = [
    "AutoencoderKL",
    "ConfigMixin",
    "ControlNetModel",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "Encoder",
    "ModelMixin",
    "TimestepEmbedding",
    "UNet2DConditionModel",
    "UniPCMultistepScheduler",
    "register_to_config",
]

_USED = (
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.controlnets.controlnet",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.schedulers.scheduling_ddpm",
    "diffusers.schedulers.scheduling_dpmsolver_multistep",
    "diffusers.schedulers.scheduling_unipc_multistep",
)
# Used by functions alone, and looked up there.
_PUT_OFF = ("accelerate", "requests", "scipy.integrate", "scipy.stats", "transformers")
_PACKAGES = (
    "diffusers.hooks",
    "diffusers.models.autoencoders",
    "diffusers.models.controlnets",
    "diffusers.models.transformers",
    "diffusers.models.unets",
)


def _plain(function: Any = None, *_: object, **__: object) -> Any:  # noqa: ANN401 - a decorator
    """Decorate with nothing: for the compiler, whose marks only matter to `torch.compile`."""
    return function if function is not None else _plain


class _Distributions(Mapping[str, list[str]]):
    """Packages' distributions, listed when one is asked for: it takes a third of a second."""

    @cached_property
    def found(self) -> Mapping[str, list[str]]:
        return importlib.metadata.packages_distributions()

    def __getitem__(self, package: str) -> list[str]:
        return self.found[package]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


def _import_used() -> None:
    """Import the modules that are used, and as little beside as can be."""
    listing = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = _Distributions
    compiler = {"torch._dynamo": {"allow_in_graph": _plain, "disable": _plain}}
    try:
        # A release that does not bear with it is imported as a whole, below.
        with suppress(Exception), put_off(_PUT_OFF, _PACKAGES, compiler):
            for name in _USED:
                import_module(name)
    finally:
        importlib.metadata.packages_distributions = listing


_import_used()

from diffusers import (  # noqa: E402
    AutoencoderKL,
    ConfigMixin,
    ControlNetModel,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    ModelMixin,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.configuration_utils import register_to_config  # noqa: E402
from diffusers.models.autoencoders.vae import Encoder  # noqa: E402
from diffusers.models.embeddings import TimestepEmbedding  # noqa: E402

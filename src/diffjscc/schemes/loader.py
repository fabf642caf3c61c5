"""Schemes as a sweep names them: every set of weights in memory once, no image coded twice."""

from __future__ import annotations

import copy
from dataclasses import replace

from diffjscc.choices import DTypeName, NeuralKind
from diffjscc.codecs.digital.source_codecs.cached import CachedSource
from diffjscc.pretrained.ddnm import DDNMScheme, ddnm_from_pretrained
from diffjscc.pretrained.diffjscc import DiffJSCC, parse_rate
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.ddnm import DDNMConfig
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.schemes.config import SchemeConfig, is_digital
from diffjscc.schemes.digital import SOURCES, DigitalScheme, digital_scheme, source_name
from diffjscc.schemes.options import DTYPES, RefinerOptions, load_scheme

LoadedScheme = DiffJSCC | DDNMScheme | DigitalScheme


class Schemes:
    """Loads schemes. A new kind of scheme with weights gets a case in `_load`.

    Args:
        device: where they compute.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._sources: dict[str, CachedSource] = {}
        self._alone: dict[str, DiffJSCC] = {}
        self._refined: dict[tuple[str, DTypeName, bool], DiffJSCC] = {}
        self._ready: dict[str, DiffJSCC | DDNMScheme] = {}

    def at(self, choice: SchemeConfig, rate: str) -> LoadedScheme:
        """A scheme at one of its rates; digital links have any.

        Raises:
            ValueError: no such weights, no such rate, weights without a receiver where one is
                asked for, or a source codec that is not installed.
        """
        wanted = parse_rate(rate)
        if is_digital(choice.kind):
            name = source_name(choice.kind)
            if name not in self._sources:
                self._sources[name] = CachedSource(SOURCES[name]())
            return digital_scheme(choice.kind, wanted, choice.link, self._sources[name])
        if choice.name not in self._ready:
            self._ready[choice.name] = self._load(choice, choice.kind)
        ready = self._ready[choice.name]
        if wanted not in ready.codec.rates:
            offered = ", ".join(map(str, ready.codec.rates))
            raise ValueError(f"{choice.name}: rate {wanted} is not one of {offered}")
        return replace(ready, rate=wanted)

    def _load(self, choice: SchemeConfig, kind: NeuralKind) -> DiffJSCC | DDNMScheme:
        match kind:
            case "deepjscc" | "adv":
                return self._codec(choice)
            case "diffjscc":
                return self._receiver(choice)
            case "ddnm":
                return self._ddnm(choice)

    def _codec(self, choice: SchemeConfig) -> DiffJSCC:
        if choice.weights not in self._alone:
            self._alone[choice.weights] = load_scheme(
                choice.weights, None, "none", RefinerOptions(), self.device
            )
        return self._alone[choice.weights]

    def _receiver(self, choice: SchemeConfig) -> DiffJSCC:
        painting = choice.painting
        key = (choice.weights, painting.dtype, painting.offload)
        if key not in self._refined:
            loading = RefinerOptions(dtype=painting.dtype, offload=painting.offload)
            self._refined[key] = load_scheme(
                choice.weights, None, "diffusion", loading, self.device
            )
        loaded = self._refined[key]
        refiner = copy.copy(loaded.refiner)  # another way to paint with the same networks
        if isinstance(refiner, ControlledDiffusion):
            painting.apply(refiner)
        return replace(loaded, refiner=refiner)

    def _ddnm(self, choice: SchemeConfig) -> DDNMScheme:
        painting = choice.painting
        return ddnm_from_pretrained(
            choice.weights,
            config=DDNMConfig(sampler=painting.config(DiffusionConfig()).sampler),
            device=self.device,
            dtype=DTYPES[painting.dtype],
            offload=painting.offload,
        )

"""Optimiser of one group of parameters, and its learning rate as a function of the iteration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diffjscc.training.config import OptimiserConfig


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that one optimiser moves.

    Attributes:
        network: its trainable parameters are moved.
        config: the optimiser's settings.
        clipped: the network whose gradient norm `config.clip` bounds; all of `network`, or a part.
    """

    network: nn.Module
    config: OptimiserConfig
    clipped: nn.Module


class Optimiser:
    """AdamW, and Muon (torch.optim) for the weights that a config names, as one.

    Weight decay acts on matrices and filters only. Muon's updates are scaled to the size of
    AdamW's, so one learning rate serves both.

    Args:
        model: its trainable parameters are moved; those outside `config.only` are frozen.
        config: settings.

    Raises:
        ValueError: `config.muon` names a layer that does not exist, or whose weight is no matrix;
            or `config.only` or `config.fresh` a module that does not exist.
    """

    def __init__(self, model: nn.Module, config: OptimiserConfig) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if config.only:
            chosen = _within(trained, config.only, "only")
            for name in trained.keys() - chosen:
                trained.pop(name).requires_grad_(False)
        matrices = {name: p for name, p in trained.items() if _is_named(name, config.muon)}
        if any(p.ndim != 2 for p in matrices.values()):
            wrong = [name for name, p in matrices.items() if p.ndim != 2]
            raise ValueError(f"optimiser.muon is for matrices; {wrong[0]} is none")
        for wanted in config.muon:
            if not any(_is_named(name, (wanted,)) for name in matrices):
                raise ValueError(f"optimiser.muon names {wanted!r}, but no weight is named so")
        others = {name: p for name, p in trained.items() if name not in matrices}
        fresh = _within(others, config.fresh, "fresh")
        groups = [
            {"params": params, "weight_decay": decay, "factor": factor}
            for factor, names in ((1.0, others.keys() - fresh), (config.fresh_factor, fresh))
            for params, decay in (
                ([p for n, p in others.items() if n in names and p.ndim > 1], config.weight_decay),
                ([p for n, p in others.items() if n in names and p.ndim <= 1], 0.0),
            )
            if names or factor == 1
        ]
        rate, decay = config.learning_rate, config.weight_decay
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=rate, betas=config.betas, fused=True)
        ]
        if matrices:
            matched = "match_rms_adamw"
            values = list(matrices.values())
            self.parts.append(
                torch.optim.Muon(values, lr=rate, weight_decay=decay, adjust_lr_fn=matched)
            )

    def step(self, learning_rate: float) -> None:
        """Move the parameters along their gradients, then clear the gradients."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group.get("factor", 1.0)
            part.step()
            part.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        """State of each optimiser, for a checkpoint."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Restore what `state_dict` gave."""
        for part, own in zip(self.parts, state, strict=True):
            part.load_state_dict(own)


def _within(weights: Iterable[str], modules: tuple[str, ...], setting: str) -> set[str]:
    """Names of the weights within modules of these names, each of which must exist."""
    found = {name: set(name.split(".")[:-1]) for name in weights}
    for wanted in modules:
        if not any(wanted in path for path in found.values()):
            raise ValueError(f"optimiser.{setting} names {wanted!r}, but no module is named so")
    return {name for name, path in found.items() if not path.isdisjoint(modules)}


def _is_named(weight: str, layers: tuple[str, ...]) -> bool:
    """Return whether "….layer.weight" is the weight of a layer of one of these names."""
    return weight.endswith(".weight") and weight.split(".")[-2] in layers


def learning_rate_at(step: int, iterations: int, config: OptimiserConfig) -> float:
    """Learning rate of iteration `step`, 0 <= step < iterations; a function of nothing else."""
    rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup, 1))
    if config.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * step / iterations))
    return rate * min(1.0, (iterations - step) / max(config.tail, 1))

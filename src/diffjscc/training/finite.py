"""Losses, gradients and weights that are not finite: found before they do harm."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

REMEDIES = (
    "a smaller optimiser.learning_rate, optimiser.clip=1 or run.precision=no may help in another "
    "run, which --init can start from weights"
)
GRADIENT = "the gradient is not finite"


class NotFiniteError(ValueError):
    """Training cannot go on, since a number is NaN or infinite."""


def is_finite(losses: Mapping[str, Tensor], trained: nn.Module) -> bool:
    """Return whether the loss that is minimised and all gradients of `trained` are finite."""
    gradients = [p.grad for p in trained.parameters() if p.grad is not None]
    # The largest magnitude: a sum of squares might overflow where every gradient is finite.
    largest = get_total_norm(gradients, norm_type=math.inf) if gradients else torch.zeros(())
    return bool(torch.isfinite(largest).cpu() & torch.isfinite(losses["loss"]).cpu())


def offenders(losses: Mapping[str, Tensor]) -> str:
    """Name what is not finite: losses with their values, or else the gradient."""
    named = [
        f"{name} is {value.item()}"
        for name, value in losses.items()
        if not bool(torch.isfinite(value))
    ]
    return ", ".join(named) or GRADIENT


def first_not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that holds NaN or infinite values, if any."""
    floating = ((name, value) for name, value in state.items() if value.is_floating_point())
    return next((name for name, value in floating if not bool(torch.isfinite(value).all())), None)


def copy_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Copy a network's buffers, such as running statistics, which a bad batch may spoil."""
    return {name: value.clone() for name, value in network.named_buffers()}


@torch.no_grad()
def restore_buffers(network: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Put back buffers that `copy_buffers` gave."""
    for name, value in network.named_buffers():
        value.copy_(kept[name])

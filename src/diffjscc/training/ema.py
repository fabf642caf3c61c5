"""Exponential moving average of weights, and a context that evaluates a model with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of a model's weights and buffers, with a short memory at first.

    Args:
        model: its state is averaged.
        decay: decay in the long run, 0 <= decay < 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model's state after iteration `step`."""
        weight = 1 - min(self.decay, (step + 2) / (step + 11))
        current = model.state_dict()
        moving = [name for name, value in self.state.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.state[name] for name in moving], [current[name] for name in moving], weight
        )
        for name in self.state.keys() - set(moving):
            self.state[name].copy_(current[name])


@contextmanager
def swap_weights(model: nn.Module, state: dict[str, Tensor]) -> Iterator[None]:
    """Hold other weights in a model, in evaluation mode, within a `with` block.

    Args:
        model: has its own weights and modes again afterwards.
        state: the other weights, a state dict.
    """
    own = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [(module, module.training) for module in model.modules()]
    model.load_state_dict(state)
    model.eval()
    try:
        yield
    finally:
        model.load_state_dict(own)
        for module, training in modes:
            module.training = training

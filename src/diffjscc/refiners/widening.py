"""Weights stored as float16 that compute in float32: each layer's are widened while it runs.

Networks take half the memory of float32, and nothing overflows but a weight that float16 cannot
hold. Every use of a layer costs one conversion of its weights.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor, nn

# Numbers of the smallest tensor that is stored as float16. First layers have fewer, whose dtype
# diffusers takes for that of the whole network.
LEAST = 1 << 16


class WeightStorage(Enum):
    """Storage of weights apart from the dtype that they compute in, which is float32."""

    FLOAT16 = "float16-storage"


def narrowed(tensor: Tensor) -> Tensor:
    """Return a weight as it is stored: float16 if it is large, float32 if not; integers stay.

    Raises:
        ValueError: a number is too large for float16.
    """
    if not tensor.is_floating_point():
        return tensor
    if tensor.ndim < 2 or tensor.numel() < LEAST:
        return tensor.float()
    half = tensor.half()
    if not bool(half.isfinite().all()):
        raise ValueError(
            f"a weight of shape {tuple(tensor.shape)} holds numbers beyond 65504, the largest of "
            "float16; use --dtype float32"
        )
    return half


def widen_when_used(network: nn.Module) -> None:
    """Store a network's weights as `narrowed` gives them, and widen each layer's while it runs."""
    for layer in network.modules():
        for parameter in layer.parameters(recurse=False):
            parameter.data = narrowed(parameter.data)
        for buffer in layer.buffers(recurse=False):
            if buffer.is_floating_point():
                buffer.data = buffer.data.float()
        stored = [p for p in layer.parameters(recurse=False) if p.dtype == torch.float16]
        if stored:
            layer.__dict__["_widening"] = _Widening(layer, stored)


def leave_as_they_are(network: nn.Module) -> None:
    """Undo `widen_when_used`, except for the dtype of the weights."""
    for layer in network.modules():
        widening = layer.__dict__.pop("_widening", None)
        if widening is not None:
            widening.remove()


class _Widening:
    """Float32 in place of some parameters of a layer while it computes."""

    def __init__(self, layer: nn.Module, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._stored: list[Tensor] = []
        self._hooks = (
            layer.register_forward_pre_hook(lambda *_: self._widen()),
            layer.register_forward_hook(lambda *_: self._restore(), always_call=True),
        )

    def _widen(self) -> None:
        self._stored = [parameter.data for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.data = parameter.data.float()

    def _restore(self) -> None:
        for parameter, stored in zip(self._parameters, self._stored, strict=False):
            parameter.data = stored
        self._stored = []

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

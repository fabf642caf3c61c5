"""The Hadamard matrix, whose rows are words of strong codes."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def hadamard(order: int) -> Tensor:
    """List the rows (-1)^<i, j> of the matrix of an order that is a power of two, float32."""
    places = range(order)
    return torch.tensor([[(-1.0) ** (i & j).bit_count() for j in places] for i in places])

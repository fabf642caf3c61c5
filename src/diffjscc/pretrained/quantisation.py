"""Tensors as rows of 8-bit numbers, each row with a scale: a quarter of float32's space.

Row i of NAME [N, ...] stands for NAME[i] * NAME.row_scale[i]; `storage` says which files have it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".row_scale"  # ends the names of scales
QUANTISED_FROM = 1024  # numbers; the saving of smaller tensors is not worth their error
LARGEST_ERROR = 0.015  # of a tensor's norm; convolutions at full size show more as mottled walls
_STEPS = 127


def quantised(name: str, value: Tensor) -> dict[str, Tensor]:
    """Quantise a tensor; return it by its names on disk.

    Returns:
        int8 NAME [N, ...] and float32 NAME.row_scale [N], of which every number is half a scale
        or less away from `value`; or NAME alone, as float16 where there is less than two
        dimensions or `QUANTISED_FROM` numbers, or an error of more than `LARGEST_ERROR`, or the
        integers that it is.

    Raises:
        ValueError: a name or a type that would be taken for another on the way back, or numbers
            that are not finite.
    """
    if name.endswith(SCALE) or value.dtype == torch.int8:
        raise ValueError(
            f"{name}, {in_words(value)}, cannot be stored beside 8-bit rows, where int8 is for "
            f"rows and {SCALE} for scales; store it as torch.float16"
        )
    if not value.is_floating_point():
        return {name: value}
    if value.ndim < 2 or value.numel() < QUANTISED_FROM:
        return {name: value.half()}
    rows = value.detach().float().flatten(1)
    largest = rows.abs().amax(1)
    if not largest.isfinite().all():
        raise ValueError(
            f"{name} holds numbers that are not finite, for which 8-bit rows have no scale; store "
            "it as torch.float32, or repair it"
        )
    scale = largest / _STEPS
    # A row of zeros has no scale to divide by; nor may rounding lead beyond int8.
    steps = (rows / scale.where(scale > 0, 1)[:, None]).round().clamp(-_STEPS, _STEPS)
    if (steps * scale[:, None] - rows).norm() > LARGEST_ERROR * rows.norm():
        return {name: value.half()}
    return {name: steps.to(torch.int8).view(value.shape), name + SCALE: scale}


def dequantised(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by their own names, from those on disk; rows become float32.

    Raises:
        ValueError: rows and scales that do not belong together, all of which are named.
    """
    scales = {name.removesuffix(SCALE): stored[name] for name in stored if name.endswith(SCALE)}
    wrong = [f"{name}{SCALE} is there without {name}" for name in scales.keys() - stored.keys()]
    tensors: dict[str, Tensor] = {}
    for name, value in stored.items():
        if name.endswith(SCALE):
            continue
        scale = scales.get(name)
        if scale is None:
            tensors[name] = value
            if value.dtype == torch.int8:
                wrong.append(f"{name} is int8 without {name}{SCALE}")
        elif value.dtype != torch.int8 or value.ndim < 2:
            wrong.append(f"{name} is {in_words(value)}; with a scale it must be rows of int8")
        elif scale.dtype != torch.float32 or scale.shape != value.shape[:1]:
            needed = f"[{len(value)}] float32"
            wrong.append(f"{name}{SCALE} is {in_words(scale)}; {name} needs {needed}")
        else:
            tensors[name] = value * scale.view(-1, *[1] * (value.ndim - 1))
    if wrong:
        raise ValueError("; ".join(sorted(wrong)))
    return tensors


def in_words(tensor: Tensor) -> str:
    """Describe shape and type, such as "[16, 3] float32"."""
    return f"{list(tensor.shape)} {str(tensor.dtype)[6:]}"

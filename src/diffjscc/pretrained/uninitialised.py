"""Networks without initial values, which files are about to fill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Uninitialised(TorchFunctionMode):
    """Context in which `torch.nn.init` leaves tensors as they are.

    Memory that nobody writes to is not taken from the system, so that a network can be compared
    with its file before it costs anything. (On the meta device torch would import its compiler to
    compute the constants of a network, which takes as long as importing torch.)
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever `func` returns
        """Call `func`, unless it is one of `torch.nn.init`."""
        del types
        given = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **given)

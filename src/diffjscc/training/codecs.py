"""Codecs to train: the package's own by class, the user's own by import string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from diffjscc.configuration import check
from diffjscc.plugins import Factory
from diffjscc.pretrained.build import build_codec
from diffjscc.scheme import Codec

CUSTOM = "custom"


def build_training_codec(description: Mapping[str, Any]) -> nn.Module:
    """Build an untrained codec.

    Args:
        description: `{"class": NAME, **architecture}` of the package's own, see `build_codec`; or
            `{"kind": "custom", "factory": "my_module:make_codec", "args": {…}}` of the user's
            own, a torch module that follows the `Codec` protocol.

    Raises:
        ValueError: an unknown class or key, or a factory that gives no such module.
    """
    if description.get("kind") != CUSTOM:
        return build_codec(description)
    factory = check(Factory, {k: v for k, v in description.items() if k != "kind"}, "codec")
    module = factory.make()
    if not isinstance(module, nn.Module):
        raise ValueError(  # noqa: TRY004 - a broken config, not a wrong call
            f"{factory.factory} gave {type(module).__name__}; a codec to train must be a torch "
            "nn.Module"
        )
    as_codec(module)
    return module


def as_codec(module: nn.Module) -> Codec:
    """Return a module as the codec that it is.

    Raises:
        ValueError: it lacks a part of the `Codec` protocol.
    """
    missing = [name for name in ("rates", "encode", "decode") if not hasattr(module, name)]
    if missing:
        raise ValueError(
            f"{type(module).__name__} has no {', '.join(missing)}; see diffjscc.scheme.Codec"
        )
    return cast("Codec", module)

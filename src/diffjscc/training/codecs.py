"""Codecs to train: the package's own by class, the user's own by import string."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from diffjscc.codecs.joint import JointCodec
from diffjscc.configuration import check
from diffjscc.plugins import Factory
from diffjscc.pretrained.build import build_codec, describe_codec
from diffjscc.pretrained.custom import save_custom
from diffjscc.pretrained.pretrained import load_codec, open_weights, save_codec
from diffjscc.pretrained.storage import WeightsError, compare, read_json, read_tensors
from diffjscc.protocols import Codec

CUSTOM = "custom"


def custom_factory(description: Mapping[str, Any]) -> Factory | None:
    """Factory of a codec of the user's own; None for one of the package's own.

    Raises:
        ValueError: an unknown key, or no import string.
    """
    if description.get("kind") != CUSTOM:
        return None
    return check(Factory, {k: v for k, v in description.items() if k != "kind"}, "codec")


def build_training_codec(description: Mapping[str, Any]) -> nn.Module:
    """Build an untrained codec.

    Args:
        description: `{"class": NAME, **architecture}` of the package's own, see `build_codec`; or
            `{"kind": "custom", "factory": "my_module:make_codec", "args": {…}}` of the user's
            own, a torch module that follows the `Codec` protocol.

    Raises:
        ValueError: an unknown class or key, or a factory that gives no such module.
    """
    factory = custom_factory(description)
    if factory is None:
        return build_codec(description)
    module = factory.make()
    if not isinstance(module, nn.Module):
        raise ValueError(  # noqa: TRY004 - a broken config, not a wrong call
            f"{factory.factory} gave {type(module).__name__}; a codec to train must be a torch "
            "nn.Module"
        )
    as_codec(module)
    return module


def start_from(network: nn.Module, source: str) -> None:
    """Load the weights of an earlier codec of the same architecture; no code of it is run.

    It may have been trained for other SNRs or another alphabet, and may lack the layers of the
    texture map.

    Args:
        network: the codec.
        source: weights (name, folder or hub id).

    Raises:
        WeightsError: the weights are missing, damaged or of another architecture.
    """
    if isinstance(network, JointCodec):
        earlier = load_codec(source)
        ours, theirs = describe_codec(network), describe_codec(earlier)
        compared = (ours.keys() | theirs.keys()) - {"class", "snr_range_db", "constellation"}
        for name in ("class", *sorted(compared)):
            joins = name == "texture" and ours.get(name)  # its layers may be new
            if ours.get(name) != theirs.get(name) and not joins:
                raise WeightsError(
                    f"the codec of {source} has {name} {theirs.get(name)}, the config "
                    f"{ours.get(name)}; set codec.{name} to start from it"
                )
        new = {k: v for k, v in network.state_dict().items() if k.split(".")[1] == "texture"}
        state = new | earlier.state_dict()
    else:
        folder = open_weights(source).folder / "codec"
        file = read_json(folder / "config.json").get("file")
        if file is None:
            raise WeightsError(f"{folder} holds no tensors of a custom codec to start from")
        state = read_tensors(folder / Path(str(file)).name)
    compare(network.state_dict(), state, f"codec of {source}")
    network.load_state_dict(state)


def save_training_codec(network: nn.Module, description: Mapping[str, Any], folder: Path) -> None:
    """Write a codec to `folder`/codec; one of the user's own with its import string.

    Args:
        network: what `build_training_codec` built of `description`.
        description: see there.
        folder: of the weights.
    """
    factory = custom_factory(description)
    if factory is not None:
        save_custom(network, folder / "codec", factory)
    else:
        assert isinstance(network, JointCodec)
        save_codec(network, folder)


def as_codec(module: nn.Module) -> Codec:
    """Return a module as the codec that it is.

    Raises:
        ValueError: it lacks a part of the `Codec` protocol.
    """
    missing = [name for name in ("rates", "encode", "decode") if not hasattr(module, name)]
    if missing:
        raise ValueError(
            f"{type(module).__name__} has no {', '.join(missing)}; see diffjscc.protocols.Codec"
        )
    return cast("Codec", module)

"""Checked configs from plain data, and codecs from their descriptions: the table of codecs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from diffjscc.codecs.basic import BasicJSCC, BasicJSCCConfig
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.codecs.deepjscc import DeepJSCC, DeepJSCCConfig
from diffjscc.codecs.feedback import FeedbackJSCC
from diffjscc.codecs.feedback_layers import FeedbackConfig
from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.codecs.swin import SwinJSCC, SwinJSCCConfig
from diffjscc.codecs.witt import WITT, WITTConfig
from diffjscc.configuration import closest

Config = TypeVar("Config")

CODECS: dict[str, tuple[type[Any], type[Any]]] = {
    "BasicJSCC": (BasicJSCC, BasicJSCCConfig),
    "CompactJSCC": (CompactJSCC, CompactConfig),
    "DeepJSCC": (DeepJSCC, DeepJSCCConfig),
    "SwinJSCC": (SwinJSCC, SwinJSCCConfig),
    "WITT": (WITT, WITTConfig),
}
FEEDBACK = "FeedbackJSCC"


def build_config(kind: type[Config], values: Mapping[str, Any], name: str) -> Config:
    """Build a config dataclass from plain data.

    Args:
        kind: the dataclass; configs within it are plain data too.
        values: settings by name; missing ones keep their defaults.
        name: name of the config in errors.

    Raises:
        ValueError: an unknown key or a value that cannot be; it is named.
    """
    _check_keys(kind, values, name)
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join((name, *map(str, first["loc"])))
        if first["type"] == "missing":
            raise ValueError(f"{where} is missing") from error
        message = first["msg"].removeprefix("Value error, ")
        value = "" if isinstance(first["input"], Mapping) else f" = {first['input']!r}"
        raise ValueError(f"{where}{value}: {message}") from error


def _check_keys(kind: type[Any], values: Mapping[str, Any], name: str) -> None:
    """Raise ValueError if a key, here or in a config within, is not a setting."""
    settings = get_type_hints(kind)
    for key, value in values.items():
        if key not in settings:
            raise ValueError(f"{name} has no setting {key!r}; {closest(key, list(settings))}")
        if dataclasses.is_dataclass(settings[key]) and isinstance(value, Mapping):
            _check_keys(settings[key], value, f"{name}.{key}")


def build_codec(description: Mapping[str, Any], parts: Parts = "both") -> JointCodec:
    """Build an untrained codec of one round from `{"class": NAME, **architecture}`.

    Raises:
        ValueError: an unknown class, an unknown key or a value of the wrong type; it is named.
    """
    values = dict(description)
    name = values.pop("class", None)
    if not isinstance(name, str) or name not in CODECS:
        raise ValueError(f"codec class {name!r} is unknown; {closest(str(name), list(CODECS))}")
    codec_class, config_class = CODECS[name]
    codec: JointCodec = codec_class(build_config(config_class, values, name), parts)
    return codec


def build_any(description: Mapping[str, Any], parts: Parts = "both") -> JointCodec | FeedbackJSCC:
    """Build an untrained codec of one round or several.

    Args:
        description: see `build_codec`; of several rounds `{"class": "FeedbackJSCC", "first":
            description of the first round's codec, **architecture}`.
        parts: which ends to build.

    Raises:
        ValueError: see `build_codec`, or one end alone of a codec that needs both.
    """
    if description.get("class") != FEEDBACK:
        return build_codec(description, parts)
    others = {key: value for key, value in description.items() if key not in ("class", "first")}
    first = description.get("first")
    if not isinstance(first, Mapping):
        words = f"{FEEDBACK}.first is {first!r}; describe the codec of the first round"
        raise ValueError(words)  # noqa: TRY004 - read from a file
    return FeedbackJSCC(build_config(FeedbackConfig, others, FEEDBACK), build_codec(first, parts))


def describe_codec(codec: JointCodec | FeedbackJSCC) -> dict[str, Any]:
    """Return the description from which `build_any` builds the same codec."""
    if isinstance(codec, FeedbackJSCC):
        first = describe_codec(codec.first)
        return {"class": FEEDBACK, "first": first, **dataclasses.asdict(codec.config)}
    for name, (codec_class, _) in CODECS.items():
        if type(codec) is codec_class:
            return {"class": name, **dataclasses.asdict(codec.config)}
    raise TypeError(f"{type(codec).__name__} is not one of {', '.join(CODECS)}")

"""From a config's names to codecs, and back: the one table of what a saved codec can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter, ValidationError

from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.codecs.deepjscc import DeepJSCC, DeepJSCCConfig
from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.codecs.swin import SwinJSCC, SwinJSCCConfig

CODECS: dict[str, tuple[type[Any], type[Any]]] = {
    "CompactJSCC": (CompactJSCC, CompactConfig),
    "DeepJSCC": (DeepJSCC, DeepJSCCConfig),
    "SwinJSCC": (SwinJSCC, SwinJSCCConfig),
}


def closest(word: str, known: list[str]) -> str:
    """What a misspelt word may have meant, or what is known."""
    match = get_close_matches(word, known, n=1)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(known)}"


def build_codec(description: Mapping[str, Any], parts: Parts = "both") -> JointCodec:
    """Build an untrained codec from `{"class": NAME, **architecture}`.

    Raises:
        ValueError: an unknown class, an unknown key or a value of the wrong type; it is named.
    """
    values = dict(description)
    name = values.pop("class", None)
    if name not in CODECS:
        raise ValueError(f"codec class {name!r} is unknown; {closest(str(name), list(CODECS))}")
    codec_class, config_class = CODECS[name]
    fields = [field.name for field in dataclasses.fields(config_class)]
    for key in values:
        if key not in fields:
            raise ValueError(f"{name} has no setting {key!r}; {closest(key, fields)}")
    try:
        config = TypeAdapter(config_class).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join((name, *map(str, first["loc"])))
        raise ValueError(f"{where} = {first['input']!r}: {first['msg']}") from error
    codec: JointCodec = codec_class(config, parts)
    return codec


def describe_codec(codec: JointCodec) -> dict[str, Any]:
    """`{"class": NAME, **architecture}`, from which `build_codec` builds the same codec."""
    for name, (codec_class, _) in CODECS.items():
        if type(codec) is codec_class:
            return {"class": name, **dataclasses.asdict(codec.config)}
    raise TypeError(f"{type(codec).__name__} is not one of {', '.join(CODECS)}")

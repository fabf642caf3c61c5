"""Typed settings: YAML and `key=value` overrides, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from diffjscc.paths import expanded

Positive = Annotated[int, Field(gt=0)]
# Settings that name files: `~` and environment variables are expanded.
FilePath = Annotated[Path, AfterValidator(lambda path: Path(expanded(path)))]
Place = Annotated[str, AfterValidator(expanded)]  # a path, a name, a hub id or an import string


class Section(BaseModel):
    """A group of settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Settings = TypeVar("Settings", bound=Section)


def closest(word: str, known: Sequence[str]) -> str:
    """Suggest the known word closest to a misspelt one, or list the known words."""
    match = get_close_matches(word, known, n=1)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(known)}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ValueError: it is no YAML, or no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(  # noqa: TRY004 - a broken file, not a wrong call
            f"config {path} holds {type(values).__name__}; a mapping is needed"
        )
    return values


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`values` after `section.key=value` overrides, each value written in YAML.

    Raises:
        ValueError: an override is not of that form.
    """
    for override in overrides:
        _apply(values, override)
    return values


def check(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Settings from plain data.

    Args:
        kind: of settings.
        values: plain data.
        where: they come from, for errors.

    Raises:
        ValueError: an unknown key (with a suggestion), or a value that breaks its rule.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{where}: {_explain(error, kind)}") from error


def as_yaml(settings: Section) -> str:
    """All settings, defaults included, as YAML."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ValueError(f"override {override!r} is not of the form key=value")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ValueError(f"override {override!r}: {section} is not a section")  # noqa: TRY004
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"override {override!r}: the value is not valid YAML") from error


def _explain(error: ValidationError, kind: type[Section]) -> str:
    """Every broken rule on one line: where, which, and the closest known key."""
    lines = []
    found = error.errors()
    for item in found:
        within = [other for other in found if other["loc"][: len(item["loc"])] == item["loc"]]
        if item["type"] == "too_short" and len(within) > 1:
            continue  # its members are broken, and so do not count
        where = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            known = list(_section_at(kind, item["loc"][:-1]).model_fields)
            lines.append(f"unknown key {where!r}; {closest(str(item['loc'][-1]), known)}")
        elif item["type"] == "missing":
            lines.append(f"{where} is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{where} = {item['input']!r}: {message}")
    return "; ".join(lines)


def _section_at(kind: type[Section], location: Sequence[int | str]) -> type[Section]:
    """The section that a place in the data is for; numbers stand for members of a list."""
    for name in location:
        if isinstance(name, int):
            continue
        annotation = kind.model_fields[name].annotation
        for candidate in (annotation, *get_args(annotation)):
            if isinstance(candidate, type) and issubclass(candidate, Section):
                kind = candidate
    return kind

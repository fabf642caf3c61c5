"""Typed settings: YAML and `key=value` overrides, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from diffjscc.paths import expanded, printable
from diffjscc.yaml_reader import MOST_LEVELS, parse_yaml, read_yaml

__all__ = [
    "Count",
    "Decibels",
    "Factor",
    "FilePath",
    "Label",
    "Place",
    "Positive",
    "Section",
    "Seed",
    "Several",
    "as_yaml",
    "check",
    "closest",
    "overridden",
    "read_yaml",
]

# Numbers of settings: every one has an upper bound, so that a slip does not fill the memory.
Positive = Annotated[int, Field(gt=0, le=1_000_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Factor = Annotated[float, Field(ge=0, le=1e6)]
Decibels = Annotated[float, Field(ge=-200, le=200)]

# Settings that name files: `~` and environment variables are expanded.
FilePath = Annotated[Path, AfterValidator(lambda path: Path(expanded(path)))]
Label = Annotated[str, AfterValidator(printable)]  # stands in tables, plots and files
Place = Annotated[str, AfterValidator(expanded)]  # a path, a name, a hub id or an import string

SHOWN = 60  # characters of a value in an error
LONGEST_RULE = 500  # characters; it may repeat a value
MOST_PROBLEMS = 6  # in an error


class Section(BaseModel):
    """A group of settings; unknown keys are errors, and numbers are finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_boolean_numbers(cls, value: Any, read: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401
        """Refuse true and false as numbers, for which pydantic takes 1 and 0."""
        found = read(value)
        _refuse_boolean_numbers(value, found)
        return found


Settings = TypeVar("Settings", bound=Section)
Member = TypeVar("Member")


def _refuse_boolean_numbers(given: object, found: object, where: str = "") -> None:
    """Raise ValueError where a boolean became a number."""
    if isinstance(given, bool):
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            word = "true" if given else "false"
            raise ValueError(f"{where}{word} is no number; write digits")  # noqa: TRY004 - see check
        for other in found if isinstance(found, (list, tuple)) else ():
            _refuse_boolean_numbers(given, other, where)  # a list of one, see Several
    elif isinstance(given, (list, tuple)) and isinstance(found, (list, tuple)):
        for one, other in zip(given, found, strict=False):
            _refuse_boolean_numbers(one, other, where)
    elif isinstance(given, Mapping):
        for name, one in given.items():
            other = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
            _refuse_boolean_numbers(one, other, f"{name}: ")


def _listed(value: object) -> object:
    """A list of one for a single value, as on the command line."""
    return value if value is None or isinstance(value, (list, tuple)) else [value]


# A list of settings; a single one may stand without brackets.
Several = Annotated[tuple[Member, ...], BeforeValidator(_listed)]


def closest(word: str, known: Sequence[str]) -> str:
    """Suggest the known word closest to a misspelt one, or list the known words."""
    match = get_close_matches(word, known, n=1)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(known)}"


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
    shown = repr(override if len(override) <= SHOWN else f"{override[:SHOWN]}…")
    key, separator, text = override.partition("=")
    *sections, last = key.split(".")
    if not separator or not all((*sections, last)):
        raise ValueError(f"override {shown} is not of the form key=value or section.key=value")
    if len(sections) > MOST_LEVELS:
        raise ValueError(f"override {shown}: no setting lies {len(sections)} sections deep")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ValueError(f"override {shown}: {section} is not a section")  # noqa: TRY004
    try:
        values[last] = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"override {shown}: the value is not valid YAML: {error}") from error


def _explain(error: ValidationError, kind: type[Section]) -> str:
    """Every broken rule on one line: where, which, and the closest known key."""
    lines = []
    found = error.errors()
    for item in found:
        within = [other for other in found if other["loc"][: len(item["loc"])] == item["loc"]]
        if item["type"] == "too_short" and len(within) > 1:
            continue  # its members are broken, and so do not count
        where = ".".join(map(str, item["loc"]))
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(f"unknown key {where!r}; {_known_key(kind, item['loc'])}")
        elif item["type"] in ("missing", "missing_argument"):
            lines.append(f"{where} is missing")
        else:
            lines.append(f"{_named(where, item['input'])}{_rule(item)}")
    if len(lines) > MOST_PROBLEMS:
        lines[MOST_PROBLEMS:] = [f"and {len(lines) - MOST_PROBLEMS} more"]
    return "; ".join(lines)


def _named(where: str, value: object) -> str:
    """The key and, where it is short, the value; a whole section is not repeated."""
    if isinstance(value, (Mapping, Section)):
        return f"{where}: " if where else ""
    text = repr(value)
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return f"{where} = {text}: " if where else f"{text}: "


# What a value must be, by the end of the name that pydantic gives the broken rule.
_MUST = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of at most 64 bits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text; put it in quotes",
    "string_unicode": "text",
    "literal_error": "one of {expected}",
    "tuple_type": "a list, such as [a, b]",
    "list_type": "a list, such as [a, b]",
    "dict_type": "settings, written as key: value",
    "model_type": "settings, written as key: value",
    "dataclass_type": "settings, written as key: value",
    "path_type": "a path",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


def _rule(item: Any) -> str:  # noqa: ANN401 - as pydantic describes an error
    """The broken rule in words."""
    context = item.get("ctx", {})
    if item["type"] in _MUST:
        return f"it must be {_MUST[item['type']].format(**context)}"
    message: str = item["msg"]
    message = message.removeprefix("Value error, ").replace("\n", " ")
    return message if len(message) <= LONGEST_RULE else f"{message[:LONGEST_RULE]}…"


def _keys(section: Any) -> list[str]:  # noqa: ANN401 - a Section or a dataclass
    fields = getattr(section, "model_fields", None) or section.__dataclass_fields__
    return list(fields)


def _known_key(kind: type[Section], location: Sequence[int | str]) -> str:
    """Suggest a key of the same section, else one of another section, else list the known ones."""
    word, known = str(location[-1]), _keys(_section_at(kind, location[:-1]))
    elsewhere = [key for key in _all_keys(kind) if "." in key]
    words = [key.rpartition(".")[2] for key in elsewhere]
    if not get_close_matches(word, known, n=1):
        for match in get_close_matches(word, words, n=1):
            return f"did you mean {elsewhere[words.index(match)]!r}?"
    return closest(word, known)


def _all_keys(section: type[Any], prefix: str = "") -> Iterator[str]:
    """Every key of a section and of the sections in it, such as "run.batch"."""
    for key in _keys(section):
        yield prefix + key
        inner = _section_at(section, [key])
        if inner is not section:
            yield from _all_keys(inner, f"{prefix}{key}.")


def _section_at(kind: type[Section], location: Sequence[int | str]) -> type[Any]:
    """The section that a place in the data is for; numbers stand for members of a list."""
    found: type[Any] = kind
    for name in location:
        fields = getattr(found, "model_fields", {})
        if name not in fields:
            continue
        annotation = fields[name].annotation
        for candidate in (annotation, *get_args(annotation)):
            if hasattr(candidate, "model_fields") or hasattr(candidate, "__dataclass_fields__"):
                found = candidate
    return found

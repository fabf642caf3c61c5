"""Parts of the user's own, named by import strings: "my_module:make".

Import strings are taken from the user's command line, YAML or arguments alone, never from a file
that comes with weights.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from diffjscc.configuration import Section, closest


class Factory(Section):
    """A call of the user's own.

    Attributes:
        factory: import string of a class or function, "module:name".
        args: its keyword arguments.
    """

    factory: str
    args: dict[str, Any] = Field(default_factory=dict)

    @field_validator("factory")
    @classmethod
    def _has_both_parts(cls, name: str) -> str:
        return check_import_string(name)

    def make(self, *values: object) -> Any:  # noqa: ANN401 - a part of the user's own
        """Call the factory with `values`, then `args`.

        Raises:
            ValueError: it cannot be imported, or does not take these arguments.
        """
        call = import_object(self.factory)
        try:
            return call(*values, **self.args)
        except TypeError as error:
            raise ValueError(f"{self.factory} could not be called: {error}") from error


def is_import_string(name: str) -> bool:
    """Return whether a name has the form "module:name"."""
    module, colon, attribute = name.partition(":")
    parts = (*module.split("."), *attribute.split("."))
    return bool(colon) and all(part.isidentifier() for part in parts)


def check_import_string(name: str) -> str:
    """Return `name` if it has the form "module:name"; raise ValueError otherwise."""
    if not is_import_string(name):
        raise ValueError(f"{name!r} is not an import string; write it as my_module:make")
    return name


def import_object(name: str) -> Callable[..., Any]:
    """Import a class or function of the user's own; the current folder's modules are found too.

    Args:
        name: "module:name", such as "my_module:make" or "package.module:Class".

    Raises:
        ValueError: another form, no such module or name, an error while it is imported, or it
            cannot be called.
    """
    module_name, _, attribute = check_import_string(name).partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module_name.split(".")[0]:
            raise ValueError(
                f"{name}: there is no module {error.name!r}; run the command in its folder, or add "
                "that to PYTHONPATH"
            ) from error
        raise ValueError(f"{name}: importing {module_name} failed: {error!r}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [word for word in vars(found) if not word.startswith("_")]
            raise ValueError(f"{name}: {module_name} has no {part!r}; {closest(part, known)}")
        found = getattr(found, part)
    if not callable(found):
        kind = type(found).__name__
        raise ValueError(f"{name} is {kind}; it must be a class or a function")  # noqa: TRY004
    call: Callable[..., Any] = found
    return call

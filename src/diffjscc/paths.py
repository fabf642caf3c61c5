"""Paths as people write them, and names as consoles and files of JSON take them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def expanded(path: str | os.PathLike[str]) -> str:
    """Replace a leading `~` or `~user`, and `$NAME` or `${NAME}` of the environment.

    A path that exists as it is written stays so. Import strings and hub ids, which contain neither,
    pass unchanged.

    Raises:
        ValueError: the path is empty, the user or variable is unknown, or it contains NUL.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise ValueError(f"{printable(text)!r} contains a NUL character; no path may")
    if not text:
        raise ValueError("the path is empty; name a file or a folder (. is this one)")
    if os.path.lexists(text):
        return text
    found = os.path.expanduser(text)  # noqa: PTH111 - pathlib's raises RuntimeError
    if found == text and text.startswith("~"):
        user = text[1:].split("/", maxsplit=1)[0]
        problem = f"there is no user {user!r}" if user else "no home folder is known"
        raise ValueError(f"{printable(text)}: {problem}; write the whole path")
    for match in _VARIABLE.finditer(found):
        name = match[1] or match[2]
        component = found[: (found.find("/", match.end()) + 1 or len(found) + 1) - 1]
        if name not in os.environ and not os.path.lexists(component):
            raise ValueError(
                f"{printable(text)}: the environment variable {name} is not set; set it, or write "
                "the whole path"
            )
    found = os.path.expandvars(found)
    if not found:
        raise ValueError(f"{printable(text)} is empty; set it to a file or a folder")
    return found


def from_environment(variable: str) -> Path | None:
    """The path that an environment variable names, `~` expanded; None where it is not set.

    Raises:
        ValueError: it names no path, see `expanded`; the text names the variable.
    """
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        return Path(expanded(text))
    except ValueError as error:
        raise ValueError(f"{variable}={error}") from None


def printable(text: str) -> str:
    r"""Write bytes that are not UTF-8, line ends and control characters as `\xe9`.

    What remains is Unicode on one line, for consoles, files of lines, JSON and HTML.
    """
    return "".join(_escaped(sign) if _UNPRINTABLE.match(sign) else sign for sign in text)


def _escaped(sign: str) -> str:
    code = ord(sign)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name as Python keeps it, PEP 383
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def resolved(path: Path) -> Path:
    """Make a path absolute, without links; one to itself is left for whoever opens it."""
    return Path(os.path.realpath(path))  # Path.resolve ends with a RuntimeError there, before 3.13

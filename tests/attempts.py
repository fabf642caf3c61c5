"""Hostile cases, each of which succeeds or is refused in words."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from typer.testing import CliRunner, Result

from diffjscc.cli import app

T = TypeVar("T")


class Attempts:
    """Cases that may succeed or be refused with words; anything else is a fault."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts

    def command(self, kind: str, *words: object) -> Result:
        """Run `diffjscc WORDS` in this process, and return what it said and its exit code."""
        self.counts[kind] += 1
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"a traceback for {words!r}") from result.exception
        assert result.exit_code in (0, 1, 2), (words, result.output)
        assert "Traceback" not in result.output, words
        if result.exit_code:
            assert result.stderr.strip(), f"no words for {words!r}"
        return result

    def call(self, kind: str, function: Callable[[], T]) -> T | ValueError | OSError:
        """Call `function`, and return what it gives or the error in words that it raises."""
        self.counts[kind] += 1
        try:
            return function()
        except (ValueError, OSError) as error:
            refused = error
        assert str(refused).strip(), f"{type(refused).__name__} without words"
        return refused


def unfinished(folder: Path) -> list[Path]:
    """Files that somebody began and did not finish."""
    return [path for path in folder.rglob("*") if path.name.endswith((".part", ".tmp"))]

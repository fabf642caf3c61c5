"""Paths as people write them: every option expands them, every output is checked before work."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_type_hints

import pytest
from typer.models import OptionInfo

from attempts import Attempts
from diffjscc.cli import app
from diffjscc.paths import expanded

KIND = "paths"


class Parameter(NamedTuple):
    """An option, by the name that is typed, or an argument (no name)."""

    option: str
    reader: str
    help: str
    required: bool


def commands() -> Iterator[tuple[tuple[str, ...], list[Parameter]]]:
    """Every command of the command line: the words that call it, and its parameters."""

    def walk(words, group):
        for info in group.registered_commands:
            name = info.name or info.callback.__name__
            yield (*words, name), list(parameters(info.callback))
        for info in group.registered_groups:
            yield from walk((*words, info.name), info.typer_instance)

    yield from walk((), app)


def parameters(callback) -> Iterator[Parameter]:
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        declared = hints[name].__metadata__[0]
        read = getattr(declared.parser, "__name__", "")
        option = ""
        if isinstance(declared, OptionInfo):
            typed = (declared.default, *(declared.param_decls or ()), f"--{name.replace('_', '-')}")
            option = next(word for word in typed if isinstance(word, str))
        required = parameter.default is inspect.Parameter.empty
        yield Parameter(option, read, declared.help or "", required)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PLACE", str(folder))
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


def test_every_parameter_that_names_files_reads_paths() -> None:
    spoken_of = ("file", "folder", "weights ", "results", "yaml", "write a record")
    others = ("settings to change", "any setting", "diffusion: needs weights")
    for words, given in commands():
        for parameter in given:
            text = parameter.help.lower()
            if any(word in text for word in spoken_of) and not text.startswith(others):
                assert parameter.reader, (words, parameter)


def words_for(
    words: tuple[str, ...], given: list[Parameter], number: int, text: object, equals: bool = False
) -> list[object]:
    """Words that give one parameter a text, and the others that are needed something harmless."""
    typed: list[object] = [*words, *(["fig3"] if words == ("reproduce",) else [])]
    last: list[object] = []
    for index, parameter in enumerate(given):
        value = text if index == number else "made"
        if not parameter.reader or (index != number and not parameter.required):
            continue
        if not parameter.option:
            last.append(value)
        elif equals:
            typed.append(f"{parameter.option}={value}")
        else:
            typed += [parameter.option, value]
    return [*typed, "--", *last] if last else typed


def said(result) -> str:
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("text", ["~nosuchuser/x", "$NOWHERE/x", "${NOWHERE}", "$EMPTY", ""])
def test_places_that_are_nowhere_are_refused_by_every_parameter(
    home: Path, attempts: Attempts, text: str
) -> None:
    reasons = ("no user 'nosuchuser'", "NOWHERE is not set", "is empty")
    for words, given in commands():
        for number, parameter in enumerate(given):
            for equals in (False, True) if parameter.reader else ():
                if parameter.option or not equals:
                    typed = words_for(words, given, number, text, equals)
                    result = attempts.command(KIND, *typed)
                    assert result.exit_code == 2
                    assert any(reason in said(result) for reason in reasons), said(result)
    assert [path.name for path in home.parent.iterdir()] == ["home"]


def test_outputs_are_checked_before_anything_is_read(home: Path, attempts: Attempts) -> None:
    file = home / "file"
    file.write_text("mine")
    long = [home / ("n" * 300), home / "a" / ("ü" * 130) / "x"]
    wrong = {
        "output_folder": [file / "below", *long, file],
        "output_file": [file / "below", *long, home, Path("/dev/null")],
    }
    for words, given in commands():
        for number, parameter in enumerate(given):
            for path in wrong.get(parameter.reader, ()):
                result = attempts.command(KIND, *words_for(words, given, number, path))
                assert result.exit_code == 2
                assert "cannot write" in said(result), said(result)
    assert file.read_text() == "mine"
    assert [path.name for path in home.iterdir()] == ["file"]


def test_expansion(home: Path, attempts: Attempts) -> None:
    (home.parent / "~kept").mkdir()
    (home.parent / "$kept").mkdir()
    cases = {
        "~": str(home),
        "~/a b": f"{home}/a b",
        "$PLACE/x": f"{home}/x",
        "${PLACE}/x": f"{home}/x",
        "~/$PLACE": f"{home}/{home}",
        "./~": "./~",
        "a/~": "a/~",
        "a~b": "a~b",
        "~kept": "~kept",
        "$kept": "$kept",
        "$kept/new": "$kept/new",
        "price 5$": "price 5$",
        "a$-b": "a$-b",
        "my_module:make": "my_module:make",
        "owner/name@revision": "owner/name@revision",
        "train-{00..11}.tar": "train-{00..11}.tar",
        "~/*.png": f"{home}/*.png",
    }
    for text, wanted in cases.items():
        assert attempts.call(KIND, lambda text=text: expanded(text)) == wanted
    for text in (
        "a\0b",
        "",
        "~nosuchuser",
        "$NOWHERE",
        "a/${NOWHERE}/b",
        "$EMPTY",
        "${}",
        "${a b}",
    ):
        assert isinstance(attempts.call(KIND, lambda text=text: expanded(text)), ValueError)

"""Errors in options are one line that names the value; help texts keep their brackets."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from diffjscc.cli import app

SENT = ["transmit", "x.png", "-o", "out"]


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([*SENT, "--snr", "banana"], "--snr banana: it must be a number"),
        ([*SENT, "--snr", "3", "--snr", "x"], "--snr x: it must be a number"),
        ([*SENT, "--snr="], "--snr '': it must be a number"),
        ([*SENT, "--seed", "1.5"], "--seed 1.5: it must be a whole number"),
        ([*SENT, "--repeats", "0"], "--repeats 0: it must be at least 1"),
        ([*SENT, "--repeats", "10001"], "--repeats 10001: it must be at most 10000"),
        ([*SENT, "--stepz", "1"], "there is no option --stepz; did you mean --steps?"),
        ([*SENT, "--weights"], "--weights needs a value"),
        ([*SENT, "--offload=yes"], "--offload takes no value"),
        (["transmot"], "there is no command transmot; did you mean transmit?"),
        (["train", "jsc"], "there is no command jsc; did you mean jscc?"),
        (["info", "[red]x"], "[red]x: one argument too many"),
        (["transmit", "x.png", "-o", "~nosuchuser/x"], "--output: ~nosuchuser/x: there is no user"),
        (["reproduce", "fig9", "-o", "out"], "figure: 'fig9' is not one of 'fig1'"),
    ],
)
def test_errors_in_options_are_one_line(words: list[str], line: str) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {line}"), result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("words", [["transmit"], ["nonsense"], ["info", "--nothing"]])
def test_lines_without_a_suggestion_name_the_help(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert re.fullmatch(r"error: .*; see \S+( transmit| info)? --help\n", result.stderr)


def test_groups_without_a_command_show_their_help() -> None:
    for words in ([], ["train"], ["fetch"], ["symbols"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert "Commands" in result.output
        assert "error:" not in result.output


def test_help_texts_keep_their_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in brackets would be markup of the console."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERMINAL_WIDTH", "400")
    seen = set()
    for path, command in commands(typer.main.get_command(app)):
        shown = CliRunner().invoke(app, [*path, "--help"]).stdout
        assert "\\[" not in shown
        texts = [command.help, *(getattr(one, "help", None) for one in command.params)]
        for text in filter(None, texts):
            for brackets in re.findall(r"\\(\[[^\]]+\])", text):
                assert brackets in shown, (path, brackets)
                seen.add(brackets)
    assert {"[@revision]", "[default: data/kodak]"} <= seen

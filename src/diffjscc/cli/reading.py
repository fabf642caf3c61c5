"""Commands whose errors in options are one line, like all others, and whose help is plain text."""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from diffjscc.cli.terminal import in_one_line, stderr

LONGEST_HELP = 60  # characters of a description beside a word that a shell completes
LONGEST_VALUE = 60  # characters of a value in an error

# Typer does not export the class of all errors in options, but one of its kinds.
_UsageError: Any = typer.BadParameter.__base__

# Rules as they are worded while options are read, and as this package words them.
_RULES = (
    (r"Input should be a valid integer\b.*", "it must be a whole number"),
    (r"Input should be a valid number\b.*", "it must be a number"),
    (r"Input should be a valid boolean\b.*", "it must be true or false"),
    (r"Input should be greater than or equal to (.*)", r"it must be at least \1"),
    (r"Input should be less than or equal to (.*)", r"it must be at most \1"),
    (r"Input should be (.*)", r"it must be \1"),
    (r"Value error, (.*)", r"\1"),
    (r"Option '([^']*)' requires an argument\.", r"\1 needs a value"),
    (r"Option '([^']*)' does not take a value\.", r"\1 takes no value"),
    (r"No such option: (\S+)", r"there is no option \1"),
    (
        r"No such command '(.*?)'\. Did you mean '([^']*)'.*",
        r"there is no command \1; did you mean \2?",
    ),
    (r"No such command '(.*?)'\.", r"there is no command \1"),
    (r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", r"\1: one argument too many"),
)


class Command(TyperCommand):
    """A command each of whose options is given once, unless it is a list or a flag."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - typer's own
        super().__init__(*args, **kwargs)
        _keep_brackets(self)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's own
        """Parse arguments, see click; an option that is given twice is an error."""
        values, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, times in Counter(given).items():
            single = not getattr(parameter, "multiple", False) and parameter.nargs == 1
            if times > 1 and single and not getattr(parameter, "is_flag", False):
                ctx.fail(f"{parameter.opts[0]} is given {times} times; give it once")
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            wrong: Any = error
            if wrong.param is None or wrong.param.name not in values or not wrong.message:
                raise
            value = _wrong_value(wrong.param, ctx, values[wrong.param.name])
            wrong.message = _with_value(_name(wrong.param), value, wrong.message)
            wrong.param = wrong.param_hint = None  # the message names it
            raise

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # noqa: ANN401 - click's own
        """Complete a word in a shell, see click."""
        return _on_one_line(super().shell_complete(ctx, incomplete))


class Group(TyperGroup):
    """Commands that report errors in options as `report_errors` does all others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - typer's own
        super().__init__(*args, **kwargs)
        _keep_brackets(self)

    def main(self, *args: Any, **settings: Any) -> Any:  # noqa: ANN401 - click's own
        """Run a command, see click; exit code 2 for errors in options."""
        alone = settings.get("standalone_mode", True)
        settings["standalone_mode"] = False
        if not alone:
            return super().main(*args, **settings)
        try:
            code = super().main(*args, **settings)
        except _UsageError as error:
            text = _in_words(error)
            if text:
                stderr.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
            sys.exit(error.exit_code)
        except typer.Abort:
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


def _on_one_line(completions: Any) -> Any:  # noqa: ANN401 - click's own
    """Shorten descriptions, which shells show beside words, one a line."""
    for completion in completions:
        if completion.help:
            completion.help = textwrap.shorten(completion.help, LONGEST_HELP, placeholder=" …")
    return completions


def _keep_brackets(command: Any) -> None:  # noqa: ANN401 - a command or a group
    """Have help texts shown as they are written, where `[words]` would be read as markup."""
    command.help = command.help and escape(command.help)
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = escape(parameter.help)


def _name(parameter: Any) -> str:  # noqa: ANN401 - an option or an argument
    return parameter.opts[0] if parameter.param_type_name == "option" else str(parameter.name)


def _wrong_value(parameter: Any, ctx: Any, given: Any) -> str:  # noqa: ANN401 - click's own
    """The value that was refused, the first one if several were."""
    if not isinstance(given, (list, tuple)):
        return str(given)
    for value in given:
        try:
            parameter.process_value(ctx, [value])
        except _UsageError:
            return str(value)
    return " ".join(map(str, given))


def _with_value(name: str, value: str, rule: str) -> str:
    """A sentence of an option, its value and the rule, which may name the value itself."""
    if value and value in rule:
        return f"{name}: {_own_words(rule)}"
    shown = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}…"
    return f"{name} {shown or repr(shown)}: {_own_words(rule)}"


def _own_words(rule: str) -> str:
    rule = rule.strip()
    for pattern, words in _RULES:
        if re.fullmatch(pattern, rule, re.DOTALL):
            return re.sub(pattern, words, rule, flags=re.DOTALL).rstrip(".; ")
    return rule.rstrip(".")


def _in_words(error: Any) -> str:  # noqa: ANN401 - click's own
    """One line for an error in options; nothing where the help was shown instead."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return ""
    parameter = getattr(error, "param", None)
    command = "" if error.ctx is None else f"; see {error.ctx.command_path} --help"
    if parameter is not None and not error.message:
        return in_one_line(ValueError(f"{_name(parameter)} is missing{command}"))
    text = _own_words(error.message)
    closest = next(iter(getattr(error, "possibilities", None) or ()), None)
    if closest:
        text += f"; did you mean {closest}?"
    elif text.startswith("there is no ") and not text.endswith("?"):
        text += command
    return in_one_line(ValueError(text))

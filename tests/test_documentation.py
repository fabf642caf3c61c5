"""Pages lead somewhere: links, the files that they name, the commands and code that they show."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

import diffjscc
from diffjscc.choices import ChannelName
from diffjscc.cli import app
from locations import ROOT
from pages import PAGES, blocks, shell_commands

COMMAND = typer.main.get_command(app)
GLOSSARY = ROOT / "docs" / "glossary.md"
GENERATED = ROOT / "docs" / "reference"  # most of its pages are made when the site is built
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
OTHERS = {
    *("accelerate", "make", "open", "pip", "python3", "tensorboard", "/usr/bin/python3"),
    *(".venv/bin/pip", ".venv/bin/pre-commit"),
}
"""Programs of others in shell blocks, which are not run."""


def anchors(page: Path) -> set[str]:
    """Fragments of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def options(command: Any) -> set[str]:
    """All options of a command and of those within it."""
    own = {option for parameter in command.params for option in parameter.opts}
    return own.union(*map(options, getattr(command, "commands", {}).values()))


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        place, _, fragment = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        if file.parent == GENERATED and not file.exists():
            continue  # test_site.py follows them
        assert file.exists(), f"{target} is not there"
        assert not fragment or fragment in anchors(file), f"{target} has no such heading"


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:src|tests|benchmarks|results/compact-kodak|docs)/[\w./-]+)`",
        page.read_text(encoding="utf-8"),
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_extra_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    extras = project["project"]["optional-dependencies"]
    assert [name for name in extras if f"`{name}`" not in page] == []


def test_every_channel_is_named() -> None:
    page = (ROOT / "docs" / "link.md").read_text(encoding="utf-8")
    between = {"custom", "tdl-b", "tdl-c", "tdl-d"}  # my_module:MyChannel; `tdl-a` to `tdl-e`
    named = {f"`{name}`" for name in get_args(ChannelName) if name not in between}
    assert {name for name in named if name not in page} == set()


def test_modules_of_the_glossary_exist() -> None:
    rows = re.findall(r"^\|.*\|([^|]*)\|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)]
    assert len(named) > 50
    package = ROOT / "src" / "diffjscc"
    assert [name for name in named if not (package / name).exists()] == []


@every_page
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in (list(c.words[1:]) for c in shell_commands(page) if c.ours):
        command: Any = COMMAND
        rest = list(words)
        while hasattr(command, "commands"):
            name = rest.pop(0)
            assert name in command.commands, f"diffjscc {' '.join(words)}: no command {name}"
            command = command.commands[name]
        given = {word.partition("=")[0] for word in rest if word.startswith("-")}
        lacking = given - options(command) - {"-"}  # standard input or output
        assert not lacking, f"diffjscc {' '.join(words)}: no option {lacking}"


@every_page
def test_options_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"`(--[a-z-]+)", page.read_text(encoding="utf-8")))
    assert named - {"--help"} - options(COMMAND) == set()


@every_page
def test_files_that_a_reader_writes_are_named(page: Path) -> None:
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"))
    for block in blocks(page):
        assert block.file is None or block.file in text, f"{page}:{block.line}: {block.file}"


@every_page
def test_python_that_is_not_run_is_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python" and not block.runs:
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and node.module == "diffjscc":
                    assert {name.name for name in node.names} <= set(diffjscc.__all__)


@every_page
def test_commands_of_others_exist(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in shell_commands(page):
        program, *rest = command.words
        assert command.ours or program in OTHERS, command
        words = " ".join(command.words)
        asked = {
            extra for found in re.findall(r"\[([\w,]+)\]", words) for extra in found.split(",")
        }
        assert not program.endswith("pip") or asked <= extras, words
        if program == "make":
            assert re.search(rf"^{rest[0]}:", makefile, re.MULTILINE), words
        if program.endswith("python3") and rest[0].endswith(".py"):
            assert (ROOT / rest[0]).is_file(), words

"""Pages lead somewhere: their links, the files that they name, and the commands that they show."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from diffjscc.cli import app
from locations import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "results" / "README.md"])
GLOSSARY = ROOT / "docs" / "glossary.md"
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """Fragments of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def commands(text: str) -> Iterator[list[str]]:
    """Words of every `diffjscc …` in a text's shell blocks."""
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for command in " ".join(shlex.split(line, comments=True)).split(" && "):
                words = command.removeprefix("accelerate launch -m ").split()
                if words and words[0] == "diffjscc":
                    yield words[1:]


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
        file = page.parent / place if place else page
        assert file.exists(), f"{target} is not there"
        assert not fragment or fragment in anchors(file), f"{target} has no such heading"


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:src|tests|benchmarks|results|docs)/[\w./-]+)`", page.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_modules_of_the_glossary_exist() -> None:
    rows = re.findall(r"^\|.*\|([^|]*)\|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)]
    assert len(named) > 50
    package = ROOT / "src" / "diffjscc"
    assert [name for name in named if not (package / name).exists()] == []


@every_page
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        command = typer.main.get_command(app)
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
    assert named - options(typer.main.get_command(app)) == set()

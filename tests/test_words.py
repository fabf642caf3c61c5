"""The package speaks the language of its field: docstrings, errors and help texts.

`docs/glossary.md` holds the terms. A summary says what a thing is or does, so it starts with a noun
phrase or a verb ("Return whether …", "Noise power …"), never with a clause ("What …", "Of how many
…"). Words of another trade are refused by `REPLACEMENTS`, whatever their ending or capitals.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from locations import ROOT

PACKAGE = ROOT / "src" / "diffjscc"
PARTS = sorted({path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")})

# Word by word, as a regular expression without its endings: what to say in its place.
REPLACEMENTS = {
    r"pictures?": "image",
    r"paint(?:s|ed|er|ers|ing|ings)?": "sample, generate; sampled, generated",
    r"judg(?:e|es|ed|ing|ement)": "evaluate, measure; metric evaluator",
    r"ledgers?": "journal",
    r"told": "given, conditioned on; says",
    r"verdicts?": "output, score",
    r"figures? of merit": "metric",
    r"(?:latent|operating) cells?": "latent position, operating point",
    r"means nothing to": "has no effect on",
}
BANNED = {re.compile(rf"\b{word}\b", re.IGNORECASE): say for word, say in REPLACEMENTS.items()}
ANY = re.compile("|".join(word.pattern for word in BANNED), re.IGNORECASE)
CLAUSE = re.compile(
    r"(?:(?:about|after|against|at|by|for|from|in|into|of|on|over|to|under|until|with) )?"
    r"(?:what|where|whose|which|who|whom|how|whether|when|why)(?:ever)?\b|of\b",
    re.IGNORECASE,
)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Offence:
    """A text against a rule, as messages show it."""

    file: str
    line: int
    text: str
    rule: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text!r}: {self.rule}"


def strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string within a node, the fixed parts of f-strings among them."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.lineno, inner.value


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of the docstrings of a module and of all classes and functions in it."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of what `raise` and `help=` show to users."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield from strings(node.exc)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            yield from strings(node.value)


def offences(source: str, file: str) -> list[Offence]:
    """All offences in a module's source, by line."""
    tree = ast.parse(source)
    found = set()
    documented = list(docstrings(tree))
    for line, text in documented:
        summary = text.partition("\n")[0]
        if opening := CLAUSE.match(summary):
            rule = f'opens with "{opening[0]}"; start with a noun phrase or a verb'
            found.add(Offence(file, line, summary, rule))
    for line, text in (*documented, *messages(tree)):
        if ANY.search(text) is None:
            continue
        for number, part in enumerate(text.splitlines()):
            for word, say in BANNED.items():
                if match := word.search(part):
                    rule = f'"{match[0]}" is not our word; say: {say}'
                    found.add(Offence(file, line + number, part.strip(), rule))
    return sorted(found, key=lambda offence: (offence.line, offence.rule))


@pytest.mark.parametrize("part", PARTS)
def test_docstrings_errors_and_help_use_the_words_of_the_field(part: str) -> None:
    path = PACKAGE / part
    found = [
        offence
        for module in (sorted(path.rglob("*.py")) if path.is_dir() else [path])
        for offence in offences(module.read_text(encoding="utf-8"), str(module.relative_to(ROOT)))
    ]
    if found:
        listed = "\n".join(map(str, found))
        pytest.fail(f"{len(found)} texts (words: docs/glossary.md)\n{listed}", pytrace=False)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ('"""What a link can tell."""', 'opens with "What"'),
        ('def f():\n    """Of how many images a crop is taken."""', 'opens with "Of how"'),
        ('class A:\n    """Whether it is there."""', 'opens with "Whether"'),
        ('raise ValueError(f"{name} was told nothing")', '"told"'),
        ('option(help="What paints it.")', '"paints"'),
        ('def _f():\n    """Latents.\n\n    They are painted.\n    """', '"painted"'),
    ],
)
def test_an_offence_is_found(source: str, rule: str) -> None:
    (found,) = offences(source, "module.py")
    assert rule in found.rule
    assert str(found).startswith("module.py:")


@pytest.mark.parametrize(
    "source",
    [
        '"""Whole images, and which of them are kept."""',
        'def f():\n    """Return whether an image is an outage."""',
        'name = "painted"  # a string that no user reads',
        'raise ValueError(f"rate {rate} is not one of {offered}")',
    ],
)
def test_plain_words_pass(source: str) -> None:
    assert offences(source, "module.py") == []


def test_the_glossary_uses_its_own_words() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert [found[0] for word in BANNED if (found := word.search(text))] == []

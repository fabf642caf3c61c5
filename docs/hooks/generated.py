"""Make what the site shows of the code from the code: diagrams, model cards, API and commands.

A page marks the place of each by a comment, `<!-- generated: rooms -->`.
"""

import json
import re
import tomllib
from functools import cache
from pathlib import Path

import griffe
import grimp
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "diffjscc"
CARDS = PACKAGE / "pretrained" / "weights"
PLACE = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
ENTRY = "__main__"  # no one reads its API

PATH = (  # what an image goes through: label, room, what it gives
    ("Codec.encode", "codecs", "symbols: K complex numbers of unit mean power"),
    ("Channel", "channels", "received symbols, y = h·x + n"),
    ("Codec.decode", "codecs", "initial image"),
    ("Refiner", "refiners", "final image"),
)

ROW, BOX, LEFT, WIDTH = 34, 26, 190, 400  # of the diagram, in pixels


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List a page for each room under Reference."""
    assert config.nav is not None
    (reference,) = (part["Reference"] for part in config.nav if "Reference" in part)
    reference += [{f"diffjscc.{room}": f"reference/{room}.md"} for room in rooms()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each room: its own docstring, then those of all in it."""
    for room in rooms():
        text = f"# diffjscc.{room}\n{documentation(api()[room])}"
        files.append(File.generated(config, f"reference/{room}.md", content=text))
    return files


def documentation(module: griffe.Module) -> str:
    """Directives for a module, without what it imports, then for those within it."""
    own = [name for name, member in module.members.items() if shown(name, member)]
    level = 2 if module.path.count(".") == 1 else 3
    parts = [f"::: {module.path}\n    options:\n      heading_level: {level}\n      members: {own}"]
    for name, inner in sorted(module.modules.items()):
        if isinstance(inner, griffe.Module) and not name.startswith("_"):
            parts += [f"## {inner.path.split('.', 2)[2]}", documentation(inner)]
    return "\n\n".join(["", *parts, ""])


def shown(name: str, member: griffe.Object | griffe.Alias) -> bool:
    """Whether a module's page has a member: classes, functions and values of its own."""
    return not (member.is_alias or member.is_module or name.startswith("_"))


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put what is made in the places that ask for it."""
    makers = {
        "path": path_diagram,
        "rooms": rooms_diagram,
        "cards": model_cards,
        "names": public_names,
        "commands": commands,
    }

    def made(place: re.Match[str]) -> str:
        if place[1] not in makers:
            raise PluginError(f"{page.file.src_uri}: {place[1]!r} is not one of {list(makers)}")
        return makers[place[1]]()

    return PLACE.sub(made, markdown)


@cache
def layers() -> list[list[str]]:
    """Rooms of the package, top down, as the import contract has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if one["type"] == "layers")
    return [
        [room for room in layer.split(" | ") if room != ENTRY]
        for layer in contract["layers"]
        if layer != ENTRY
    ]


def rooms() -> list[str]:
    """All rooms, top down."""
    return [room for layer in layers() for room in layer]


@cache
def api() -> griffe.Module:
    """The package, read but not imported."""
    package = griffe.load("diffjscc", search_paths=[PACKAGE.parent], docstring_parser="google")
    assert isinstance(package, griffe.Module)
    return package


def summary(place: griffe.Object | griffe.Alias) -> str:
    """First line of a docstring."""
    return place.docstring.value.partition("\n")[0] if place.docstring else ""


def path_diagram() -> str:
    """Boxes of what an image goes through, each a link to its room."""
    boxes = [
        f'<a class="box" href="../reference/{room}.html"><b>{label}</b><span>{room}/</span></a>'
        f'<span class="step">→ {gives}</span>'
        for label, room, gives in PATH
    ]
    return f'<div class="path"><span class="step">image →</span>{"".join(boxes)}</div>'.replace(
        "../reference", "reference"
    )


@cache
def imports() -> list[tuple[int, int]]:
    """Imports between rooms by their places, without those that follow from others."""
    graph = grimp.build_graph("diffjscc")
    for room in rooms():
        if f"diffjscc.{room}" in graph.modules and graph.find_children(f"diffjscc.{room}"):
            graph.squash_module(f"diffjscc.{room}")
    place = {f"diffjscc.{room}": number for number, room in enumerate(rooms())}
    direct = {
        name: {
            place[imported]
            for imported in graph.find_modules_directly_imported_by(name)
            if imported in place and imported != name
        }
        for name in place
    }
    below: dict[int, set[int]] = {}
    for name in reversed(place):  # no arrow points up, so what is below is complete already
        below[place[name]] = direct[name].union(*(below[one] for one in direct[name]))
    return [
        (place[name], to)
        for name, reached in direct.items()
        for to in sorted(reached)
        if not any(to in below[other] for other in reached)
    ]


def rooms_diagram() -> str:
    """The import graph: a list of rooms, top down, with an arc for each import."""
    names = rooms()
    centre = [ROW * number + ROW // 2 for number in range(len(names))]
    arcs, boxes = [], []
    for start, end in imports():
        reach = min(LEFT - 20, 18 + 14 * (end - start))
        x, top, bottom = LEFT, centre[start] + 5, centre[end] - 5
        arcs.append(
            f'<path d="M{x},{top} C{x - reach},{top} {x - reach},{bottom} {x},{bottom}">'
            f"<title>{names[start]} imports {names[end]}</title></path>"
        )
    for name, y in zip(names, centre, strict=True):
        boxes.append(
            f'<a href="reference/{name}.html"><title>{escape(summary(api()[name]))}</title>'
            f'<rect x="{LEFT}" y="{y - BOX // 2}" width="{WIDTH - LEFT - 10}" height="{BOX}"/>'
            f'<text x="{LEFT + 12}" y="{y + 5}">{name}</text></a>'
        )
    return (
        f'<svg class="rooms" viewBox="0 0 {WIDTH} {ROW * len(names)}" role="img" '
        'aria-label="Import graph of the rooms, top down"><defs><marker id="tip" '
        'viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z"/></marker></defs>{"".join(arcs)}{"".join(boxes)}</svg>'
    )


def escape(text: str) -> str:
    """Text for HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def model_cards() -> str:
    """All cards of bundled weights."""
    return "\n\n".join(map(model_card, sorted(CARDS.glob("*/card.json"))))


def model_card(path: Path) -> str:
    """Section of a card: what the weights are, how they were made, how good they are."""
    card = json.loads(path.read_text(encoding="utf-8"))
    size = sum(file.stat().st_size for file in path.parent.rglob("*.safetensors")) / 1e6
    lines = [f"## {card['name']}", "", f"**Contains.** {card['contains']} {size:.0f} MB."]
    for key, title in (("trained_on", "Trained on"), ("choices", "Choices"), ("limits", "Limits")):
        lines += ["", f"**{title}.** {card[key]}"]
    training = card["training"]
    lines += ["", f"**Hardware.** {training['hardware']}.", "", "### Training", ""]
    for part, how in training.items():
        if isinstance(how, dict):
            numbers = ", ".join(
                f"{key} {how[key]}" for key in ("iterations", "batch", "crop") if key in how
            )
            lines.append(f"- **{part}** ({numbers}). Loss: {how['loss']}. How: {how['how']}")
    lines += ["", "### PSNR of the codec alone on Kodak, in dB, one transmission each", ""]
    rows = card["kodak_psnr_db"]
    levels = list(next(iter(rows.values())))
    lines += [f"| R (cpp) | {' | '.join(levels)} |", "|---" * (len(levels) + 1) + "|"]
    for rate, row in rows.items():
        lines.append(f"| {rate} | {' | '.join(f'{row[level]:.2f}' for level in levels)} |")
    return "\n".join(lines)


def public_names() -> str:
    """All names that `import diffjscc` offers, each a link to its documentation."""
    package = api()
    assert package.exports is not None
    lines = ["| name | | summary |", "|---|---|---|"]
    for name in sorted(map(str, package.exports), key=str.lower):
        member = package[name]
        target = member.final_target if isinstance(member, griffe.Alias) else member
        shown = f"`{name}`" if target.is_attribute else f"[`{name}`][{target.path}]"
        words = summary(target) or summary(target.parent)
        lines.append(f"| {shown} | {target.kind.value} | {cell(words)} |")
    return "\n".join(lines)


def commands() -> str:
    """All commands with their options, as `--help` has them."""
    import typer.cli  # noqa: PLC0415 - the other pages do without

    from diffjscc.cli import app  # noqa: PLC0415

    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="diffjscc")
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="diffjscc")
    return text.partition("\n## ")[1] + text.partition("\n## ")[2]

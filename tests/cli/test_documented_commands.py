"""Commands of the README and the docs: their values, and the origin of files that they read."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from diffjscc.cli import app
from diffjscc.training.codec_config import AdversarialConfig, FeedbackTrainingConfig, JSCCConfig
from diffjscc.training.config import StageConfig, load_config
from diffjscc.training.control_config import ControlConfig
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.denoiser_config import DenoiserConfig
from diffjscc.training.prior_config import PriorConfig, VAEConfig
from locations import ROOT
from pages import PAGES, blocks, shell_commands

COMMAND = typer.main.get_command(app)
STAGES: dict[str, type[StageConfig]] = {
    "jscc": JSCCConfig,
    "adversarial": AdversarialConfig,
    "feedback": FeedbackTrainingConfig,
    "vae": VAEConfig,
    "prior": PriorConfig,
    "control": ControlConfig,
    "decoder": DecoderConfig,
    "denoiser": DenoiserConfig,
}
# Files that pages speak of as the reader's own, or that take a network or hours.
BROUGHT = {
    *("photo.jpg", "photo.png", "clip.mp4", "holiday/*.png", "my/photos", "my/images", "my/others"),
    "runs/alpha-3e-3/weights",  # docs/paper.md: the same again
    *("photos", "results/before", "results/after", "data/kodak"),
}


OWN = {block.file for page in PAGES for block in blocks(page) if block.file}


def documented(page: Path) -> Iterator[list[str]]:
    """Words of every complete `diffjscc …` of a page, in order."""
    for command in shell_commands(page):
        if command.ours and command.complete:
            yield list(command.words[1:])


def parsed(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Command and values of its options, as the command line reads them."""
    command: Any = COMMAND
    rest, path, context = list(words), [], None
    while hasattr(command, "commands"):
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
    context = command.make_context(path[-1], rest)
    return path, dict(context.params)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_read_with_their_values(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options have values of their kind, and settings of stages exist and are in range."""
    monkeypatch.chdir(tmp_path)
    for words in documented(page):
        path, values = parsed(words)
        if path[0] in ("train", "precompute") and values["config"] not in OWN:
            stage = ControlConfig if path[0] == "precompute" else STAGES[path[1]]
            load_config(stage, values["config"], values["overrides"] or [])


def made_and_read(words: list[str]) -> tuple[set[str], set[str]]:
    """Folders and files that a command writes, and those that it reads."""
    path, values = parsed(words)
    made = {str(values[name]) for name in ("output", "destination") if values.get(name)}
    settings = [one.partition("=") for one in values.get("overrides") or ()]
    made |= {place for key, _, place in settings if key.endswith(".folder")}
    if path == ["fetch", "kodak"]:
        made.add("data/kodak")
    read = {str(one) for name in ("images", "results") for one in values.get(name) or ()}
    read |= {str(values[name]) for name in ("before", "after", "config") if values.get(name)}
    places = [values.get("weights"), values.get("spatial"), *(values.get("adversarial") or ())]
    places += [place for _, _, place in settings]
    read |= {str(one) for one in places if one and re.fullmatch(r"[\w.-]+(/[\w.*-]+)+", str(one))}
    return made, {place for place in read if "/" in place or "." in place}


def test_what_commands_read_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path is the reader's own, or written by a command of some page."""
    monkeypatch.chdir(tmp_path)
    every = [words for page in PAGES for words in documented(page)]
    made = {place for words in every for place in made_and_read(words)[0]}
    assert len(every) > 30
    for words in every:
        for place in made_and_read(words)[1]:
            known = place in BROUGHT | OWN or any(
                place == one or place.startswith(f"{one}/") for one in made
            )
            assert known, f"{' '.join(words)}: nothing makes {place}"

"""Pages of the documentation, and a reader who follows their blocks from an empty folder.

A comment before a block tells the tests about it; readers do not see it:

    <!-- not run: REASON -->      its commands and options are looked up, nothing is run
    <!-- file: NAME -->           the block is (the next part of) a file of this name
    <!-- with: WORDS -->          words that end each of its commands, to make it quick
"""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from typer.testing import CliRunner

from accelerator import forget_accelerator
from clips import moving_square, write_video
from diffjscc.cli import app
from locations import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "results" / "README.md"])
BLOCK = re.compile(
    r"(?P<marks>(?:^<!-- (?:not run|file|with): [^\n]* -->\n)*)"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
MARK = re.compile(r"<!-- (not run|file|with): (.*) -->")
PHOTOGRAPHS = (
    *("photo.jpg", "photo.png", "holiday/1.png", "data/kodak/kodim01.png"),
    *(f"{folder}/{n}.png" for folder in ("photos", "my/photos", "my/others") for n in range(3)),
)
"""What a reader has beforehand beside clip.mp4, and what `diffjscc fetch kodak` brings."""

TRAINING = ["run.iterations=2", "run.batch=2"]
QUICK = {
    ("train", "jscc"): [*TRAINING, "data.crop=64"],
    ("train", "adversarial"): [*TRAINING, "data.crop=64"],
    ("train", "feedback"): [*TRAINING, "data.crop=64"],
    ("train", "vae"): [*TRAINING, "data.crop=64"],
    ("train", "prior"): [*TRAINING, "data.crop=64"],
    ("train", "control"): [*TRAINING, "data.crop=64"],
    ("train", "denoiser"): [*TRAINING, "data.crop=64"],
    ("train", "decoder"): [*TRAINING, "data.crop=64", "window=64", "sampled.images=4"],
    ("precompute",): ["data.crop=64"],
}
"""Words that end a command, to make it quick."""


@dataclass(frozen=True)
class Command:
    """A line of a shell block, or a part of one between `&&`.

    Attributes:
        words: program and arguments.
        alone: whether it is started as it is: neither in several processes nor with its input or
            output redirected.
    """

    words: tuple[str, ...]
    alone: bool = True

    @property
    def ours(self) -> bool:
        return Path(self.words[0]).name == "diffjscc"

    @property
    def complete(self) -> bool:
        return "…" not in self.words

    def quick(self, further: list[str]) -> list[str]:
        """Words after `diffjscc` of a command that takes seconds."""
        words = list(self.words[1:])
        own_config = "--config" in words
        for first, added in QUICK.items():
            if tuple(words[: len(first)]) == first:
                words += [one for one in added if one in TRAINING or not own_config]
        return words + further


@dataclass(frozen=True)
class Block:
    """A fenced block and what its comments say."""

    language: str
    text: str
    marks: dict[str, str]
    line: int

    @property
    def runs(self) -> bool:
        return "not run" not in self.marks

    @property
    def file(self) -> str | None:
        """Name of the file that it is; the first line of a YAML block may say so."""
        named = re.match(r"# (\S+\.yaml)\n", self.text) if self.language == "yaml" else None
        return self.marks.get("file") or (named[1] if named else None)

    @property
    def commands(self) -> list[Command]:
        """Commands of a shell block."""
        found = []
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = words.index("&&") if "&&" in words else len(words)
                part, words = words[:end], words[end + 1 :]
                launched = part[:2] == ["accelerate", "launch"] and "-m" in part
                part = part[part.index("-m") + 1 :] if launched else part
                arrows = [part.index(arrow) for arrow in ("<", ">") if arrow in part]
                found.append(
                    Command(tuple(part[: min(arrows, default=None)]), not launched and not arrows)
                )
        return found


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page that name their language."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found["language"],
            found["text"],
            dict(MARK.findall(found["marks"])),
            text.count("\n", 0, found.start()) + 1,
        )
        for found in BLOCK.finditer(text)
    ]


def shell_commands(page: Path) -> Iterator[Command]:
    """Commands of all shell blocks of a page."""
    for block in blocks(page):
        if block.language in ("bash", "sh"):
            yield from block.commands


@dataclass
class Reader:
    """Follows a page in a folder that holds photographs and a clip, and nothing else.

    Attributes:
        folder: where commands run.
        names: what the page's Python blocks have defined.
    """

    folder: Path
    names: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ramp = np.linspace(0, 255, 80 * 96 * 3).reshape(80, 96, 3).astype(np.uint8)
        for name in PHOTOGRAPHS:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ramp).save(path)
        write_video(self.folder / "clip.mp4", moving_square(2))

    def follow(self, page: Path) -> None:
        """Do what a page says, in order."""
        for block in blocks(page):
            if not block.runs:
                continue
            place = f"{page.relative_to(ROOT)}:{block.line}"
            if block.file is not None:
                file = self.folder / block.file
                earlier = file.read_text(encoding="utf-8") + "\n\n" if file.exists() else ""
                file.write_text(earlier + block.text, encoding="utf-8")
            if block.language == "yaml":
                yaml.safe_load(block.text)
            elif block.language == "python" and block.file is None:
                self.execute(block.text, place)
            elif block.language in ("bash", "sh"):
                self.enter(block)

    def enter(self, block: Block) -> None:
        """Run the package's commands of a shell block; those of others are looked up elsewhere."""
        for command in block.commands:
            if command.ours and command.complete and command.alone:
                words = command.quick(shlex.split(block.marks.get("with", "")))
                with self.inside():
                    result = CliRunner().invoke(app, words)
                assert result.exit_code == 0, f"{words}: {result.output[-3000:]}{result.exception}"

    def execute(self, text: str, place: str) -> None:
        """Run a Python block after those before it."""
        with self.inside():
            exec(compile(text, place, "exec"), self.names)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the folder, as a process of one's own that has imported nothing of it."""
        forget_accelerator()
        before, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))
        try:
            yield
        finally:
            os.chdir(before)
            sys.path[:] = path
            for name in set(sys.modules) - modules:
                file = getattr(sys.modules[name], "__file__", None)
                if file and Path(file).is_relative_to(self.folder):
                    del sys.modules[name]

"""Paths as people write them: every option expands them, every output is checked before work."""

import inspect
import json
import os
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import NamedTuple, get_type_hints

import numpy as np
import pytest
from PIL import Image
from typer.models import OptionInfo
from typer.testing import CliRunner

from attempts import Attempts, unfinished
from diffjscc.cli import app
from diffjscc.cli.record_file import RecordFile
from diffjscc.configuration import check, overridden
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.transmission import Delivery, Link
from diffjscc.paths import expanded
from diffjscc.training.config import DataConfig
from toy_results import toy_record, toy_results

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
    others = ("settings to change", "any setting", "diffusion: needs weights", "of sigmf files")
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


@pytest.mark.parametrize("text", ["~nosuchuser/x", "$NOWHERE/x", ""])
def test_places_that_are_nowhere_are_refused_by_every_parameter(
    home: Path, attempts: Attempts, text: str
) -> None:
    reasons = ("no user 'nosuchuser'", "NOWHERE is not set", "is empty")
    for words, given in commands():
        for number, parameter in enumerate(given):
            forms = (
                {False, bool(parameter.option)} if text[0:1] == "~" else {bool(parameter.option)}
            )
            for equals in forms if parameter.reader else ():
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


@pytest.fixture
def photo(home: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(home / "photo.png")
    return home / "photo.png"


def test_no_output_replaces_an_input_or_another_output(photo: Path, attempts: Attempts) -> None:
    home, before = photo.parent, photo.read_bytes()
    (home / "link.json").symlink_to(photo)
    os.link(photo, home / "hard.json")
    sent = ("transmit", photo, "--refiner", "none", "-o", home / "out")
    files = [photo, home / "link.json", home / "hard.json", home / "." / "photo.png"]
    files += [home / "out" / "photo.png", home / "out" / "photo-side-by-side.png"]
    for file in files:
        result = attempts.command(KIND, *sent, f"--json={file}")
        assert result.exit_code == 2
        assert "overwrit" in said(result), said(result)
    assert attempts.command(KIND, *sent[:-1], home).exit_code == 2
    assert photo.read_bytes() == before
    assert not (home / "out").exists()


def test_results_are_not_replaced(home: Path, attempts: Attempts) -> None:
    toy_results(home / "results")
    names = [path.relative_to(home) for path in (home / "results").rglob("*") if path.is_file()]
    before = {name: (home / name).read_bytes() for name in names}
    for name in names:
        for words in (
            ("compare", home / "results", home / "results", "--json", home / name),
            ("report", home / "results", "-o", home / name),
        ):
            assert attempts.command(KIND, *words).exit_code == 2, words
    assert before == {name: (home / name).read_bytes() for name in names}


@pytest.mark.parametrize("form", ["~/made/{}", "$PLACE/made/{}", "${{PLACE}}/made/{}"])
def test_expanded_paths_are_used(photo: Path, attempts: Attempts, form: str) -> None:
    home = photo.parent
    output, rows = form.format("out"), form.format("deep/rows.jsonl")
    source = form.format("x").replace("made/x", "photo.png")
    words = ("transmit", source, "--refiner", "none", f"--output={output}", f"--json={rows}")
    assert attempts.command(KIND, *words).exit_code == 0
    assert (home / "made" / "out" / "photo.png").is_file()
    assert len((home / "made" / "deep" / "rows.jsonl").read_text().splitlines()) == 1
    found = attempts.call(KIND, lambda: check(DataConfig, {"train": source}, "config"))
    assert found.train == str(photo)
    settings = overridden({}, [f"train={source}", f"packed={output}"])
    assert check(DataConfig, settings, "overrides").packed == home / "made" / "out"
    sweep = [f'schemes=[{{kind: deepjscc, weights: "{output}"}}]', f'images=["{source}"]']
    config = check(SweepConfig, overridden({}, sweep), "settings")
    assert (config.images, config.schemes[0].weights) == ((str(photo),), str(home / "made/out"))
    assert not list(home.parent.glob("[$~]*"))


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_records_can_be_read_at_every_moment(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch, attempts: Attempts
) -> None:
    path = home / "new" / name

    def read() -> list[dict[str, object]]:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if name == "rows.json" else list(map(json.loads, text.splitlines()))

    with RecordFile(path) as file:
        assert read() == []
        for number in range(20):
            record = toy_record(image=f"{number} é照\u2028")
            attempts.call(KIND, lambda record=record: file.add(record))
            assert [row["image"] for row in read()] == [f"{n} é照\u2028" for n in range(number + 1)]
        raw = file._file
        monkeypatch.setattr(file, "_file", FullDisk(raw))
        assert isinstance(attempts.call(KIND, lambda: file.add(toy_record())), OSError)
        assert len(read()) == 20
    assert not unfinished(home)


class FullDisk:
    """A file on a disk that becomes full in the middle of a write."""

    def __init__(self, file: RawIOBase) -> None:
        self.file, self.full = file, True

    def write(self, data: bytes) -> int:
        if self.full:
            self.full = False
            return self.file.write(data[: len(data) // 2])
        return self.file.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_transmission_keeps_its_records(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, link, calls = photo.parent, Link.transmit, []

    def third_is_interrupted(*args: object, **named: object) -> list[Delivery]:
        calls.append(args)
        return interrupt() if len(calls) == 3 else link(*args, **named)

    monkeypatch.setattr(Link, "transmit", third_is_interrupted)
    words = ["transmit", str(photo), "--refiner", "none", "--repeats", "5", "-o", str(home / "out")]
    result = CliRunner().invoke(app, [*words, "--json", str(home / "rows.json")])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert "photo.png" in result.stdout
    assert len(json.loads((home / "rows.json").read_text())) == 2
    assert not unfinished(home)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("diffjscc.evaluation.sweep.SweepRun._do", "evaluate photo.png -o made --set features=[]"),
        ("diffjscc.evaluation.sweep.Sweep.prepare", "reproduce fig3 -o made --images photo.png"),
        ("diffjscc.evaluation.results.read_results", "report made"),
        ("diffjscc.evaluation.results.read_results", "plot made"),
        ("diffjscc.evaluation.results.read_results", "compare made made"),
        ("diffjscc.cli.information.information", "info"),
        ("diffjscc.pretrained.convert.released.convert_released", "convert made there"),
        ("diffjscc.data.fetch.fetch_kodak", "fetch kodak -o made"),
        ("diffjscc.data.fetch.fetch_openimages", "fetch openimages -o made"),
    ],
)
def test_interrupted_commands_say_so(
    place: str, words: str, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    monkeypatch.setattr(place, interrupt)
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 130, result.output
    assert "interrupted" in result.stderr

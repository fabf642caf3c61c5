"""Folders of results that were cut, mixed, edited or made by something else."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from attempts import Attempts, unfinished
from small_scheme import SCHEME

KIND = "results folder"

REPORT = ("report", "results", "-o", "page.html")

Damage = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two images and a small scheme of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "means_of_blocks.py").write_text(SCHEME)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        levels = rng.uniform(0, 255, (32, 64, 3)).astype(np.uint8)
        Image.fromarray(levels).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path


def evaluate(*more: str) -> tuple[object, ...]:
    where = ("evaluate", "photos", "-o", "results", "--scheme", "means_of_blocks:make")
    small = ("--set", "metrics=[psnr]", "--set", "features=[]", "--set", "device=cpu")
    return (*where, *small, "--snr", "1", "--snr", "7", *more)


def made(place: Path, attempts: Attempts) -> Path:
    """A finished folder, with distances and an absent point added by hand."""
    assert attempts.command(KIND, *evaluate()).exit_code == 0
    folder = place / "results"
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    point = ("scheme", "channel", "nominal_rate", "nominal_snr_db")
    values = {"features": "squeezenet", "patches": 9, "frechet": 4.0, "kernel": 0.1}
    distances = [{name: row[name] for name in point} | values for row in rows[::2]]
    write(folder / "distances.jsonl", [one | {"kernel_deviation": 0.01} for one in distances])
    lost = {name: rows[-1][name] for name in (*point, "image")} | {"reason": "too large"}
    write(folder / "absent.jsonl", [lost])
    write(folder / "rows.jsonl", rows[:-1])
    kept = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    write(folder / "images.jsonl", kept[:-1])
    return folder


def write(file: Path, lines: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def changed(name: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / name
        file.write_bytes(change(file.read_bytes()))

    return damage


def cut(part: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * part)]


def with_value(key: str, value: object) -> Callable[[bytes], bytes]:
    """The first line, with another value for a key."""

    def change(data: bytes) -> bytes:
        first, rest = data.split(b"\n", 1)
        return json.dumps({**json.loads(first), key: value}).encode() + b"\n" + rest

    return change


def damages_of_lines() -> Iterator[tuple[str, Damage]]:
    keys = {
        "rows.jsonl": ("scheme", "metrics", "snr_db"),
        "distances.jsonl": ("frechet",),
        "absent.jsonl": ("image", "failed"),
    }
    values = (float("nan"), "x", 10**400)
    for name, known in keys.items():
        for part in (0.35, 0.97):
            yield f"{name} cut at {part}", changed(name, cut(part))
        for text in (b"\xff\xfe", b"[]\n", b"[" * 9999 + b"\n"):
            yield f"{name} after {text[:4]!r}", changed(name, lambda data, text=text: text + data)
            yield f"{name} before {text[:4]!r}", changed(name, lambda data, text=text: data + text)
        yield f"{name} emptied", changed(name, lambda _: b"")
        yield f"{name} twice", changed(name, lambda data: data + data)
        yield f"{name} less", changed(name, lambda data: data.split(b"\n", 1)[1])
        yield f"{name} gone", lambda folder, name=name: (folder / name).unlink()
        yield f"{name} a folder", lambda folder, name=name: as_folder(folder / name)
        yield f"{name} of DOS", changed(name, lambda data: data.replace(b"\n", b"\r\n"))
        for key in known:
            for value in values:
                yield f"{name} {key}={value!r:.9}", changed(name, with_value(key, value))
        yield f"{name} with more", changed(name, with_value("more", 1))


def as_folder(path: Path) -> None:
    remove(path)
    path.mkdir()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def as_loop(path: Path) -> None:
    remove(path)
    path.symlink_to(path)


def as_binary(path: Path) -> None:
    remove(path)
    path.write_bytes(bytes(range(256)) * 20)


def damages_of_files() -> Iterator[tuple[str, Damage]]:
    """Files that are missing, renamed, or something else; and files that nobody expects."""
    changes: dict[str, Callable[[Path], object]] = {
        "gone": remove,
        "renamed": lambda path: path.rename(path.with_name(f"{path.name}.bak")),
        "a folder": as_folder,
        "binary": as_binary,
        "a link to itself": as_loop,
        "empty": lambda path: (remove(path), path.touch()),
    }
    names = ("setup.json", "rows.jsonl", "distances.jsonl", "absent.jsonl", "images.jsonl")
    for name in (*names, "images"):
        for label, change in changes.items():
            yield f"{name} {label}", lambda folder, c=change, n=name: c(folder / n)
    for label, change in changes.items():
        yield f"an image {label}", lambda folder, c=change: c(next((folder / "images").iterdir()))
    for name in ("unfinished", "features", ".lock", "notes.txt", "rows (1).jsonl", "images/x.png"):
        for label in ("a folder", "binary", "a link to itself"):
            yield f"{name} {label}", lambda folder, c=changes[label], n=name: c(folder / n)
    for name in ("rows-0.jsonl", "absent-0.jsonl", "rows-x.jsonl", "distances-x.jsonl"):
        for text in (b"{}\n", b"\xff\n", b"[]", b""):
            yield f"unfinished/{name} of {text!r}", left_unfinished(name, text)


def left_unfinished(name: str, text: bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "unfinished").mkdir()
        (folder / "unfinished" / name).write_bytes(text)

    return damage


def setup_with(*keys: str, value: object) -> Damage:
    def change(data: bytes) -> bytes:
        whole = inner = json.loads(data)
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        return json.dumps(whole).encode()

    return changed("setup.json", change)


def damages_of_setup() -> Iterator[tuple[str, Damage]]:
    texts = (b"", b"[]", b"null", b"3", b'"x"', b"{}", b"[" * 9999, b"\xff", b'{"format": 2}')
    for text in texts:
        yield f"setup.json is {text[:9]!r}", changed("setup.json", lambda _, text=text: text)
    for part in (0.1, 0.5, 0.9):
        yield f"setup.json cut at {part}", changed("setup.json", cut(part))
    for value in (1, 99, "2", None, [], 2.5):
        yield f"format {value}", setup_with("format", value=value)
    for key in ("sweep", "weights", "images", "metrics", "versions", "device", "left_out"):
        for value in (None, [], "x"):
            yield f"setup {key}={value!r}", setup_with(key, value=value)
    for key in ("schemes", "channels", "rates", "snrs_db", "repeats", "seed", "shown"):
        for value in (None, "x", 10**12, [[]]):
            yield f"sweep {key}={value!r}", setup_with("sweep", key, value=value)


def try_commands(
    damages: Iterator[tuple[str, Damage]], place: Path, attempts: Attempts, least: int
) -> None:
    """Damage a fresh copy and run the commands; a damage is mended, or refused for ever.

    The commands read folders alike, so each damage goes to one of three beside compare and
    evaluate. Drawing takes longest: what compare finds well is drawn at first alone.
    """
    sound = made(place, attempts)
    shutil.copytree(sound, place / "sound")
    readers = (("table", "results"), ("plot", "results", "-o", "plots"), REPORT)
    drawn, count = False, 0
    for label, damage in damages:
        folder = place / "results"
        shutil.rmtree(folder)
        shutil.copytree(place / "sound", folder)
        damage(folder)
        compared = attempts.command(KIND, "compare", "sound", "results")
        reader = readers[count % 3]
        if compared.exit_code == 2 or reader[0] == "table" or not drawn:
            read = attempts.command(KIND, *reader)
            assert read.exit_code == 2 or compared.exit_code != 2, label
            drawn = drawn or (reader is REPORT and read.exit_code == 0)
        elif label.startswith("an image"):
            attempts.command(KIND, *REPORT)
        again = attempts.command(KIND, *evaluate())
        if again.exit_code == 0:
            after = attempts.command(KIND, "compare", "sound", "results")
            assert after.exit_code == 0, (label, after.output)
        assert not unfinished(place), label
        count += 1
    assert count >= least


def test_damaged_lines(place: Path, attempts: Attempts) -> None:
    try_commands(damages_of_lines(), place, attempts, least=60)


def test_damaged_setups(place: Path, attempts: Attempts) -> None:
    try_commands(damages_of_setup(), place, attempts, least=60)


def test_other_files(place: Path, attempts: Attempts) -> None:
    try_commands(damages_of_files(), place, attempts, least=60)

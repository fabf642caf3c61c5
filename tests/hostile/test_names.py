"""Names of files as they come: whatever they are, what is made of them can be read."""

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attempts import Attempts, unfinished
from diffjscc.data.files import atomic_write
from diffjscc.data.folders import FolderSource
from diffjscc.data.manifest import read_manifest, write_manifest
from diffjscc.data.packed import PackedSource, pack
from diffjscc.data.search import LONGEST_STEM, find_images, safe_stem, unique_stems
from diffjscc.evaluation.lines import as_json, read_records
from diffjscc.evaluation.results import read_results
from diffjscc.paths import printable
from toy_results import toy_record

KIND = "names of files"

LINE_ENDS = [f"a{end}b" for end in ("\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028")]
CONTROLS = [f"a{chr(code)}b" for code in (1, 7, 8, 9, 27, 31, 127, 0x90, 0x2029)]
CONTROLS += ["\x1b[31mred", "\x1b]0;x\x07"]
REFUSED = [f"a{sign}b" for sign in '<>:"\\|?*'] + ["C:\\x", "a:b:c", "..\\x"]
RESERVED = ["CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "con", "nul.tar", "CONIN$", "com¹"]
SPACES = [" a", "a ", "a.", "a..", "-", "--help", "-o", "~", "~x", "$HOME", "${HOME}", "%41"]
SCRIPTS = [
    "照片",
    "фото",
    "תמונה",
    "صورة",
    "写真 (1)",
    "사진",
    "ภาพ",
    "फ़ोटो",
    "😀",
    "é",
    "e\u0301",
    "ﬁ",
]
SCRIPTS += ["İ", "ß", "\u202egnp", "\u200b", "\ufeffbom", "\ufffd", "𝒳", "a\u200db"]
MARKUP = ["[bold]x[", "[b]", "<b>x", "<script>", "&amp;", "a'b", "{x}", "{{x}}", "{% x %}", "$x^2$"]
BYTES = [os.fsdecode(name) for name in (b"caf\xe9", b"\xff\xfe", b"\x80", b"\xc3", b"\xed\xa0\x80")]
LONG = ["n" * 251, "é" * 125, "照" * 83, "😀" * 62, "a" * 250 + "b", "a." * 125, " " * 251]
GLOBS = ["[a]", "[!a]", "a*c", "?", "[", "]", "{a,b}", "**"]
NAMES = [*LINE_ENDS, *CONTROLS, *REFUSED, *RESERVED, *SPACES]
NAMES += [*SCRIPTS, *MARKUP, *BYTES, *LONG, *GLOBS]


def write(path: Path, side: int = 24) -> Path:
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def works_everywhere(stem: str) -> None:
    """Whether Windows, macOS and Linux take a file whose name begins so."""
    stem.encode()
    assert stem
    assert not set(stem) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in stem)
    assert stem.split(".", maxsplit=1)[0].upper() not in {
        "CON",
        "PRN",
        "AUX",
        "NUL",
        "COM1",
        "LPT9",
        "CONIN$",
    }
    assert len(stem.encode()) <= LONGEST_STEM


def test_stems_are_taken_by_every_system(attempts: Attempts) -> None:
    for name in NAMES:
        stem = attempts.call(KIND, lambda name=name: safe_stem(name))
        works_everywhere(stem)
        assert safe_stem(stem) == stem
    plain = ["kodim01", "my photo (1)", "a-b_c.d", "照片", "é"]
    assert [safe_stem(name) for name in plain] == plain
    long = [safe_stem("n" * 200 + end) for end in "ab"]
    assert long[0] != long[1]
    assert long[0].startswith("n" * 100)


def test_all_of_them_in_one_folder(tmp_path: Path, attempts: Attempts) -> None:
    for name in NAMES:
        write(tmp_path / f"{name}.png", 2)
    found = attempts.call(KIND, lambda: find_images(tmp_path))
    shown = [name for name in NAMES if not name.startswith(".")]
    assert len(found) == len(shown)
    stems = unique_stems(found)
    folded = {unicodedata.normalize("NFC", stem).casefold() for stem in stems}
    assert len(folded) == len(found)
    for stem in stems:
        works_everywhere(stem)
    assert unique_stems(found[::-1]) == stems[::-1]
    source = FolderSource(tmp_path)
    assert len(source) == len(shown)
    manifest = write_manifest(source, tmp_path / "split.jsonl", 0.5, progress=False)
    assert read_manifest(tmp_path / "split.jsonl") == manifest
    pack(source, tmp_path / "all.pack", progress=False)
    assert PackedSource(tmp_path / "all.pack").names == source.names
    for index, name in enumerate(source.names):
        assert attempts.call(KIND, lambda index=index: source[index]).shape == (2, 2, 3), name


@pytest.mark.parametrize(
    "names",
    [
        ["A.png", "a.png"],
        ["A.png", "a.png", "A.jpg"],
        ["é.png", "e\u0301.png", "É.png"],
        ["a:b.png", "a?b.png", "a_b.png"],
        ["ß.png", "ss.png", "SS.png"],
        ["CON.png", "con.png", "_CON.png"],
        ["a_b/c.png", "a/b_c.png", "c.png"],
        ["x/a.png", "X/a.png"],
        [os.fsdecode(b"\xe9.png"), "%E9.png"],
        ["n" * 180 + "1.png", "n" * 180 + "2.png"],
    ],
)
def test_names_that_some_system_takes_for_one(
    names: list[str], tmp_path: Path, attempts: Attempts
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, 2)
    stems = attempts.call(KIND, lambda: unique_stems([tmp_path / name for name in names]))
    folded = {unicodedata.normalize("NFC", stem).casefold() for stem in stems}
    assert len(folded) == len(names)
    for stem in stems:
        works_everywhere(stem)


def test_names_stay_where_nothing_clashes() -> None:
    assert unique_stems([Path("x/kodim01.png"), Path("x/b.tar.png")]) == ["kodim01", "b.tar"]


def test_lines_are_lines_to_every_reader(tmp_path: Path, attempts: Attempts) -> None:
    texts = [*NAMES, "\ud800", "\udfff\udbff"]
    record = toy_record("deepjscc").as_dict()
    records = [{**record, "image": name, "caption": f"of {name}"} for name in texts]
    lines = [attempts.call(KIND, lambda record=record: as_json(record)) for record in records]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(texts)
    read = read_records(path)
    for name, record in zip(texts, read, strict=True):
        whole = not any("\ud800" <= sign <= "\udfff" for sign in name)
        assert record.image == (name if whole else printable(name))


def test_words_are_on_one_line_of_unicode(attempts: Attempts) -> None:
    for name in [*NAMES, "\ud800"]:
        text = attempts.call(KIND, lambda name=name: printable(name))
        text.encode()
        assert len(f"a{text}b".splitlines()) == 1
        assert "\x1b" not in text
    assert printable("café 照片") == "café 照片"
    assert printable(os.fsdecode(b"caf\xe9\n")) == "caf\\xe9\\x0a"


def test_files_are_written_whatever_their_name(tmp_path: Path, attempts: Attempts) -> None:
    for name in NAMES:
        path = tmp_path / f"{name}.txt"

        def put(path: Path = path) -> None:
            with atomic_write(path) as temporary:
                temporary.write_text("x")

        assert attempts.call(KIND, put) is None
        assert path.read_text() == "x"
    assert len(list(tmp_path.iterdir())) == len(NAMES)


HARD = ["照片", "a\nb", "a\u2028b", os.fsdecode(b"caf\xe9"), "n" * 251, "CON", "[b]", "\x1b[31m"]


def test_transmit(tmp_path: Path, attempts: Attempts) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in [*HARD, "A", "a"]:
        write(folder / f"{name}.png")
    output, rows = tmp_path / "out", tmp_path / "rows.jsonl"
    options = ("--refiner", "none", "-o", output, "--json", rows)
    result = attempts.command(KIND, "transmit", folder, *options)
    assert result.exit_code == 0, result.output
    lines = rows.read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == len(HARD) + 2
    assert len(read_records(rows)) == len(HARD) + 2
    names = [path.name for path in output.iterdir()]
    assert len({name.casefold() for name in names}) == 2 * (len(HARD) + 2)
    for name in names:
        works_everywhere(name.removesuffix(".png").removesuffix("-side-by-side"))
    for name in HARD:
        one = attempts.command(KIND, "transmit", folder / f"{name}.png", *options)
        assert one.exit_code == 0, one.output
        missing = attempts.command(KIND, "transmit", folder / f"{name}.jpg", *options)
        assert missing.exit_code == 2
        assert "\x1b[31m" not in missing.output
        assert len(missing.stderr.splitlines()) == 1
    assert not unfinished(tmp_path)


def test_a_sweep_is_kept_and_shown(tmp_path: Path, attempts: Attempts) -> None:
    folder = tmp_path / os.fsdecode(b"im\xe9ages \n")
    folder.mkdir()
    for name in [*HARD, "A", "a", "A b", "A-b"]:
        write(folder / f"{name}.png", 96)
    output = tmp_path / os.fsdecode(b"r\xe9sults")
    label = "my 照 \\u2028 [b] <i> $x$"
    schemes = f'schemes=[{{kind: jpeg-capacity, label: "{label}"}}]'
    options = ("metrics=[psnr]", "shown=99", "features=[]", "rates=[1]", "snrs_db=[10]", schemes)
    given = [word for option in options for word in ("--set", option)]
    words = ("evaluate", folder, *given, "-o", output)
    result = attempts.command(KIND, *words)
    assert result.exit_code == 0, result.output
    results = read_results(output)
    assert len(results.records) == len(HARD) + 4
    kept = {line.final for line in results.kept} | {line.original for line in results.kept}
    assert len({name.casefold() for name in kept}) == 2 * len(results.kept) == 2 * (len(HARD) + 4)
    assert all((output / name).is_file() for name in kept)
    assert attempts.command(KIND, *words).exit_code == 0
    assert read_results(output).records == results.records
    shown = attempts.command(KIND, "report", output, "-o", tmp_path / "report.html")
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.count("no font on this machine") <= 1
    assert "Glyph" not in shown.stderr
    (tmp_path / "report.html").read_text(encoding="utf-8")
    assert attempts.command(KIND, "plot", output, "-o", tmp_path / "plots").exit_code == 0
    same = attempts.command(KIND, "compare", output, output, "--json", tmp_path / "same.json")
    assert same.exit_code == 0, same.output
    assert json.loads((tmp_path / "same.json").read_text(encoding="utf-8"))
    assert not unfinished(tmp_path)

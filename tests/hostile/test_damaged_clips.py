"""Clips and pipes as nobody would choose to send them."""

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from attempts import Attempts, unfinished
from clips import moving_square, write_clip
from diffjscc.cli import app, inputs
from diffjscc.data import decoding
from diffjscc.data.clips import open_clip
from peak import PEAK, needs_peak

KIND, PIPES = "clips", "standard input and output"
SUFFIXES = (".gif", ".webp", ".png", ".mp4", ".mkv", ".webm", ".avi")
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small clip of every kind."""
    folder = tmp_path_factory.mktemp("sound")
    frames = moving_square(3, (32, 32))
    return {end: write_clip(folder / f"a{end}", frames).read_bytes() for end in SUFFIXES}


def damaged(content: bytes) -> Iterator[bytes]:
    """A file cut off, with bytes of it changed, removed and repeated; the same in every run."""
    size, rng = len(content), np.random.default_rng(5)
    for part in (0.02, 0.1, 0.3, 0.6, 0.9, 0.99):
        yield content[: int(part * size)]
    for _ in range(10):
        changed = bytearray(content)
        for place in rng.integers(0, size, 1 + size // 50):
            changed[place] = rng.integers(256)
        yield bytes(changed)
    for _ in range(3):
        begin, end = sorted(rng.integers(0, size, 2))
        yield content[:begin] + content[end:]
        yield content[:end] + content[begin:]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_clips(
    suffix: str, sound: dict[str, bytes], tmp_path: Path, attempts: Attempts
) -> None:
    for number, content in enumerate(damaged(sound[suffix])):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(content)
        clip = attempts.call(KIND, lambda path=path: open_clip(path, path.name))
        if not isinstance(clip, ValueError):
            assert 1 <= clip.count <= 20
            assert clip.size[0] * clip.size[1] < 1 << 24
            attempts.call(KIND, lambda clip=clip: sum(1 for _ in clip.frames()))


OTHERS = {
    "nothing": b"",
    "a byte": b"\x00",
    "zeros": bytes(5000),
    "noise": RNG.bytes(5000),
    "text": b"not a video\n" * 100,
    "html": b"<html><script>alert(1)</script></html>",
    "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "a list of files": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "a description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    "an address": b"http://127.0.0.1:9/x.mp4",
    "a pickle": b"\x80\x04cposix\nsystem\n(X\x04\x00\x00\x00truetR.",
    "an empty GIF": b"GIF89a\x10\x00\x10\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff;",
    "an empty container": bytes.fromhex("1a45dfa3"),
    "a box without an end": struct.pack(">I4s", 0xFFFFFFFF, b"ftyp") + b"isom" * 8,
    "a box in itself": struct.pack(">I4s", 8, b"moov") * 500,
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".y4m", ".gif"])
def test_what_is_no_clip(suffix: str, tmp_path: Path, attempts: Attempts) -> None:
    for name, content in OTHERS.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        opened = attempts.call(KIND, lambda path=path: open_clip(path, path.name))
        assert isinstance(opened, ValueError), name
        assert "passwd" not in str(opened)


def wide_apng(width: int, height: int) -> bytes:
    """An animation whose header announces a size, without pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    control = chunk(b"acTL", struct.pack(">II", 2_000_000_000, 0))
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + control + frame + chunk(b"IDAT", zlib.compress(b""))


GIF_HEADER = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\x00\x00"
HUGE = {
    "huge.gif": GIF_HEADER + bytes(6) + b"!",
    "huge.png": wide_apng(60_000, 60_000),
    "many.png": wide_apng(8, 8),
    "huge.y4m": b"YUV4MPEG2 W60000 H60000 F25:1\nFRAME\n" + bytes(1000),
    "odd.y4m": b"YUV4MPEG2 W-5 H0 F0:0\nFRAME\n" + bytes(1000),
}


@needs_peak
def test_huge_sizes_take_no_memory(tmp_path: Path, attempts: Attempts) -> None:
    for name, content in HUGE.items():
        (tmp_path / name).write_bytes(content)
        opened = attempts.call(KIND, lambda name=name: open_clip(tmp_path / name, name))
        assert isinstance(opened, ValueError), name
    program = f"""{PEAK}
import av
from diffjscc.data.clips import open_clip

before = peak()
for path in Path({str(tmp_path)!r}).iterdir():
    try:
        open_clip(path, path.name)
    except ValueError:
        pass
print(peak() - before)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(ran.stdout) < 100_000


def test_limits_on_pixels(
    sound: dict[str, bytes], tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    for suffix in SUFFIXES:
        (tmp_path / f"a{suffix}").write_bytes(sound[suffix])
        opened = attempts.call(KIND, lambda end=suffix: open_clip(tmp_path / f"a{end}", "a"))
        assert "million pixels; resize it" in str(opened)


PIPED = [
    ["-"],
    ["-", "--frames", "2"],
    ["-", "--max-side", "8"],
    ["-", "-", "--rate", "1/16"],
]


@pytest.mark.parametrize("words", PIPED, ids=" ".join)
def test_garbage_in_a_pipe(words: list[str], tmp_path: Path, attempts: Attempts) -> None:
    # Of no more than a few: the codec is loaded for what may be an image.
    contents = [content for name, content in OTHERS.items() if name in ("nothing", "noise", "html")]
    for content in contents:
        for output in ("-", str(tmp_path / "out"), str(tmp_path / "out.mp4")):
            attempts.counts[PIPES] += 1
            result = CliRunner().invoke(
                app, ["transmit", *words, "--refiner", "none", "-o", output], input=content
            )
            assert isinstance(result.exception, SystemExit), result.exception
            assert result.exit_code == 2
            assert result.stderr.strip()
            assert not result.stdout_bytes
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (None, "is closed"),
        (SimpleNamespace(buffer=None, closed=True), "is closed"),
        (SimpleNamespace(buffer=io.BytesIO(b"x"), closed=False, isatty=lambda: True), "terminal"),
    ],
)
def test_standard_input_that_is_none(
    stream: object, said: str, tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find() -> None:
        with inputs.Inputs(["-"], tmp_path):
            pass

    monkeypatch.setattr(sys, "stdin", stream)
    assert said in str(attempts.call(PIPES, find))


def test_standard_input_without_an_end(
    tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless:
        def read(self, count: int) -> bytes:
            return bytes(count)

    monkeypatch.setattr(inputs, "MOST_BYTES", 3 << 20)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    stream = SimpleNamespace(buffer=Endless(), closed=False, isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stream)

    def find() -> None:
        with inputs.Inputs(["-"], tmp_path):
            pass

    assert "more than 3 MiB" in str(attempts.call(PIPES, find))
    assert not list(tmp_path.iterdir())


OUTPUTS = ["missing/out.mp4", "file/x", "file/out.gif", "folder.gif", "a\0b", "x" * 300 + ".mp4"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_that_cannot_be_written(
    output: str, sound: dict[str, bytes], tmp_path: Path, attempts: Attempts
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.gif").mkdir()
    clip = tmp_path / "clip.gif"
    clip.write_bytes(sound[".gif"])
    words = ("transmit", clip, "-o", f"{tmp_path}/{output}")
    result = attempts.command(KIND, *words, "--scheme", "jpeg-capacity", "--rate", "8")
    assert result.exit_code == (0 if output in ("missing/out.mp4", "folder.gif") else 2)
    assert not unfinished(tmp_path)


FRAMES = ["0", "-1", "x", "1e9", "", "100001", "2.5", "0x10", "99999999999999999999"]


def test_numbers_of_frames(sound: dict[str, bytes], tmp_path: Path, attempts: Attempts) -> None:
    clip = tmp_path / "clip.gif"
    clip.write_bytes(sound[".gif"])
    for text in FRAMES:
        result = attempts.command(KIND, "transmit", clip, "--frames", text, "-o", tmp_path / "out")
        assert result.exit_code == 2
        assert "--frames" in result.stderr


FOLDERS = ["a\nb", "照片", "[b]x", "CON", "a:b", "e\u0301", "%41", " x ", "$HOME", "~"]


def test_names_of_subfolders(tmp_path: Path, attempts: Attempts) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for number, name in enumerate([*FOLDERS, os.fsdecode(b"caf\xe9"), "A", "a"]):
        folder = source / name / f"{number}" / "deep"
        folder.mkdir(parents=True)
        Image.new("RGB", (16, 16), (number * 9, 0, 0)).save(folder / "i.png")
    loop = source / "loop"
    loop.symlink_to(source, target_is_directory=True)
    words = ("transmit", source, "--scheme", "jpeg-capacity", "--rate", "8", "-o", output)
    result = attempts.command(KIND, *words)
    assert result.exit_code == 0, result.output
    final = list(output.rglob("i-jpeg-capacity.png"))
    assert len(final) == len(FOLDERS) + 3
    for path in final:
        parts = path.relative_to(output).parts
        assert not set("".join(parts)) & set('<>:"\\|?*\n')
        assert output in path.resolve().parents

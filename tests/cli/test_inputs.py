"""Standard input and output, folders with subfolders, and clips, by `diffjscc transmit`."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from clips import moving_square, write_animation, write_video
from diffjscc.cli import app
from diffjscc.data.clips import open_clip

PROGRAM = [sys.executable, "-c", "from diffjscc.cli import main; main()", "transmit"]


def run(*words: object, stdin: bytes | None = None) -> Result:
    """By the codec alone."""
    result = CliRunner().invoke(
        app, ["transmit", "--refiner", "none", *map(str, words)], input=stdin
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def png(frame: Image.Image) -> bytes:
    file = io.BytesIO()
    frame.save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    moving_square(1)[0].save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_standard_input_gives_what_the_file_gives(photo: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    assert run(photo, "-o", tmp_path / "file").exit_code == 0
    assert run("-", "-o", tmp_path / "in", "--json", rows, stdin=photo.read_bytes()).exit_code == 0
    written = {path.name for path in (tmp_path / "in").iterdir()}
    assert written == {"stdin.png", "stdin-side-by-side.png"}
    expected = (tmp_path / "file/photo.png").read_bytes()
    assert (tmp_path / "in/stdin.png").read_bytes() == expected
    (row,) = json.loads(rows.read_text())
    assert row["image"] == "standard input"
    out = run("-", "-o", "-", stdin=photo.read_bytes())
    assert out.exit_code == 0
    assert out.stdout_bytes == expected
    assert "PSNR" in out.stderr


def test_a_pipe(photo: Path) -> None:
    """Nothing but PNG is in standard output, and no file is left behind."""
    command = [*PROGRAM, "-", "--refiner", "none", "--scheme", "webp-capacity", "--rate", "1"]
    command = [word for word in command if word not in ("--refiner", "none")]
    ran = subprocess.run(
        [*command, "-o", "-"],
        input=photo.read_bytes(),
        capture_output=True,
        cwd=photo.parent,
        check=True,
        env=os.environ | {"TMPDIR": str(photo.parent)},
    )
    assert Image.open(io.BytesIO(ran.stdout)).size == (64, 48)
    assert ran.stdout.startswith(b"\x89PNG")
    assert b"webp" in ran.stderr or b"PSNR" in ran.stderr
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-", "-"], "standard input (-) is given 2 times"),
        (["-", "--repeats", "2"], "takes one final image of each that is sent, not 2"),
        (["-", "--snr", "1", "--snr", "4"], "give one --snr"),
        (["-", "--uncertainty"], "--uncertainty writes maps beside the images"),
        (["photo.png", "-"], "takes one image, not 2"),
    ],
)
def test_one_image_for_standard_output(
    words: list[str], said: str, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    result = run(*words, "-o", "-", stdin=photo.read_bytes())
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not result.stdout_bytes


def test_files_that_are_called_so(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photo.parent)
    photo.rename("-")
    assert run("./-", "-o", "./-x").exit_code == 0
    assert Path("-x/-.png").is_file()
    Path("-").unlink()
    assert run("./-x/-.png", "-o", "./-").exit_code == 0
    assert Path("./-/-.png").is_file()


def test_a_folder_keeps_its_structure(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "in" / "out"
    names = ["a.png", "x/a.png", "x/y/a.png", "x/y/a.jpg", "x/Y.png", "CON/b.png"]
    for name in [*names, ".hidden/h.png", "x/.h.png"]:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        moving_square(1)[0].save(path)
    (source / "empty").mkdir()
    result = run(source, "-o", output)
    assert result.exit_code == 0, result.output
    stems = ["CON/b", "a", "x/Y", "x/a", "x/y/a_jpg", "x/y/a_png"]
    stems[0] = "_CON/b"

    def written() -> list[str]:
        files = [path.relative_to(output).as_posix() for path in output.rglob("*.png")]
        return sorted(name for name in files if "side-by-side" not in name)

    assert written() == sorted(f"{stem}.png" for stem in stems)
    # The output lies within the input: it is not sent itself.
    assert run(source, "-o", output).exit_code == 0
    assert written() == sorted(f"{stem}.png" for stem in stems)
    shutil.rmtree(output)
    twice = run(source, source / "x", "-o", tmp_path / "two", "--json", tmp_path / "r.json")
    assert twice.exit_code == 0
    sent = [row["image"] for row in json.loads((tmp_path / "r.json").read_text())]
    assert sorted(sent) == sorted(str(source / name) for name in names)
    result = run(source, "-o", source)
    assert result.exit_code == 2
    assert "would be overwritten" in result.stderr


def test_a_clip_in_frames_out(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", moving_square(), sound=True)
    rows = tmp_path / "rows.json"
    result = run(video, "-o", tmp_path / "out", "--json", rows, "--frames", 3)
    assert result.exit_code == 0, result.output
    assert "clip.mp4: its sound is left out" in " ".join(result.stderr.split())
    assert "clip.mp4 (3 frames)" in " ".join(result.stdout.split())
    names = sorted(path.name for path in (tmp_path / "out" / "clip").iterdir())
    finals = [f"000{number}.png" for number in (1, 2, 3)]
    assert names == sorted([*finals, *(name.replace(".", "-side-by-side.") for name in finals)])
    read = json.loads(rows.read_text())
    assert [Path(row["image"]).name for row in read] == ["clip.mp4#1", "clip.mp4#2", "clip.mp4#3"]
    # Each frame is what it would be alone, at the same noise.
    frame = list(open_clip(video, "clip").frames())[1]
    alone = run("-", "-o", "-", stdin=png(Image.fromarray(frame)))
    assert alone.stdout_bytes == (tmp_path / "out/clip/0002.png").read_bytes()


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_clip_in_a_clip_out(suffix: str, tmp_path: Path) -> None:
    animation = write_animation(tmp_path / "clip.gif", moving_square(), 50)
    sent = tmp_path / f"sent{suffix}"
    assert run(animation, "-o", tmp_path / "frames", "--rate", "1/16", "--snr", 20).exit_code == 0
    result = run("-", "-o", sent, "--rate", "1/16", "--snr", 20, stdin=animation.read_bytes())
    assert result.exit_code == 0, result.output
    clip = open_clip(sent, "sent")
    assert (clip.count, clip.rate, clip.size) == (4, 20, (48, 64))
    for number, frame in enumerate(clip.frames(), 1):
        still = np.asarray(Image.open(tmp_path / "frames" / "clip" / f"000{number}.png"))
        assert np.abs(frame.astype(float) - still).mean() < 5
    images = run(tmp_path / "frames" / "clip" / "000?.png", "-o", tmp_path / "again.mkv")
    assert images.exit_code == 0
    assert open_clip(tmp_path / "again.mkv", "again").count == 4
    over = run(animation, "-o", animation)
    assert over.exit_code == 2
    assert "would be overwritten" in over.stderr


def test_videos_of_a_folder_are_named(tmp_path: Path) -> None:
    moving_square(1)[0].save(tmp_path / "a.png")
    write_video(tmp_path / "b.mp4", moving_square(1))
    result = run(tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "1 videos are left out, the first one b.mp4" in " ".join(result.stderr.split())
    none = run(tmp_path / "a.png", "-o", tmp_path / "out", "--frames", 2)
    assert none.exit_code == 2
    assert "--frames 2 is for videos and animations" in none.stderr

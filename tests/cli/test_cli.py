"""The command line on good and on bad input: success or one clear line, never a traceback."""

import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from diffjscc.cli import app

KEYS = {"image", "scheme", "weights", "rate", "channel_uses", "snr_db", "repeat"}
KEYS |= {"metrics", "initial_metrics", "seconds"}


@pytest.fixture(autouse=True)
def _no_network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in the cache, and nothing is fetched."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("DIFFJSCC_METRIC_WEIGHTS", raising=False)
    monkeypatch.setattr("diffjscc.metrics.weights.download", _offline)


def _offline(url: str, path: Path, *_: object, **__: object) -> Path:
    from diffjscc.data.download import DownloadError  # noqa: PLC0415

    raise DownloadError(url, path, "no network in the tests")


def image(path: Path, width: int = 48, height: int = 32, mode: str = "RGB") -> Path:
    """A smooth image with a little texture."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack((x * 255 // max(width, 2), y * 255 // max(height, 2), (x * y) % 64 + 96), -1)
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)
    return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def transmit(tmp_path: Path, *arguments: object) -> Result:
    """By the codec alone, which is quick; test_cli_receiver is about the rest."""
    return run("transmit", *arguments, "--refiner", "none", "-o", tmp_path / "out")


def test_a_transmission(tmp_path: Path) -> None:
    source = image(tmp_path / "a.png", 100, 50)
    figures = tmp_path / "figures.json"
    result = transmit(tmp_path, source, "--snr", 4, "--rate", "1/32", "--json", figures)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(figures.read_text())
    assert row.keys() >= KEYS
    assert row["channel_uses"] == 8 * 7 * 4
    assert row["rate"] == pytest.approx(8 * 7 * 4 / 5000)
    assert row["snr_db"] == pytest.approx(4, abs=1e-4)
    assert row["metrics"]["lpips"] > 0
    assert "weights" not in result.output
    assert row["metrics"]["ms_ssim"] is None  # undefined for so small an image
    written = np.asarray(Image.open(tmp_path / "out" / "a.png"), dtype=np.float64)
    error = np.mean((written - np.asarray(Image.open(source), dtype=np.float64)) ** 2) / 255**2
    assert row["metrics"]["psnr"] == pytest.approx(10 * math.log10(1 / error), abs=1e-3)
    assert Image.open(tmp_path / "out" / "a-side-by-side.png").width > 200
    assert "224" in result.output


def test_a_metric_without_its_weights_does_not_stop_a_transmission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffjscc.metrics.weights.PACKAGED", tmp_path / "none")
    figures = tmp_path / "figures.json"
    result = transmit(tmp_path, image(tmp_path / "a.png"), "--json", figures)
    assert result.exit_code == 0, result.output
    assert "LPIPS weights missing" in " ".join(result.output.split())
    (row,) = json.loads(figures.read_text())
    assert "lpips" not in row["metrics"]


def test_the_same_seed_gives_the_same_noise_whatever_else_is_sent(tmp_path: Path) -> None:
    one = image(tmp_path / "one.png")
    image(tmp_path / "two.png", 64, 64)

    def levels(name: str, *arguments: object) -> dict[str, float]:
        result = transmit(tmp_path, *arguments, "--json", tmp_path / name)
        assert result.exit_code == 0, result.output
        rows = json.loads((tmp_path / name).read_text())
        return {
            f"{Path(row['image']).name} {row['repeat']}": row["metrics"]["psnr"] for row in rows
        }

    alone = levels("alone.json", one, "--channel", "rayleigh")
    folder = levels("folder.json", tmp_path / "*.png", "--channel", "rayleigh", "--repeats", 2)
    other = levels("other.json", one, "--channel", "rayleigh", "--seed", 1)
    assert folder["one.png 0"] == alone["one.png 0"]
    assert folder["one.png 1"] != alone["one.png 0"] != other["one.png 0"]
    assert len(folder) == 4


def test_repeats_and_json_lines(tmp_path: Path) -> None:
    figures = tmp_path / "f.jsonl"
    result = transmit(
        tmp_path,
        image(tmp_path / "a.png"),
        "--repeats",
        3,
        "--json",
        figures,
        "--channel",
        "awgn",
    )
    assert result.exit_code == 0
    rows = [json.loads(line) for line in figures.read_text().splitlines()]
    assert [row["repeat"] for row in rows] == [0, 1, 2]
    assert len({row["metrics"]["psnr"] for row in rows}) == 3
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a-2.png", "a-3.png", "a-side-by-side.png", "a.png"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
@pytest.mark.parametrize("size", [(40, 24)])
def test_images_of_every_mode(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray(np.full((24, 40), 40000, np.uint16)).save(path)
    else:
        image(path, *size, mode)
    assert transmit(tmp_path, path).exit_code == 0
    assert Image.open(tmp_path / "out" / "a.png").size == size


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (15, 17), (3, 161)])
def test_images_of_awkward_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    assert transmit(tmp_path, image(tmp_path / "a.png", *size)).exit_code == 0
    assert Image.open(tmp_path / "out" / "a.png").size == size


def test_rotation_by_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 24), "red").save(tmp_path / "a.jpg", exif=exif)
    assert transmit(tmp_path, tmp_path / "a.jpg").exit_code == 0
    assert Image.open(tmp_path / "out" / "a.png").size == (24, 40)


def _truncated(folder: Path) -> Path:
    path = image(folder / "bad.png", 200, 200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _with_bytes(folder: Path, content: bytes) -> Path:
    path = folder / "bad.png"
    path.write_bytes(content)
    return path


BAD_IMAGES = {
    "truncated": _truncated,
    "empty file": lambda folder: _with_bytes(folder, b""),
    "text": lambda folder: _with_bytes(folder, b"this is not an image\n" * 50),
    "header only": lambda folder: _with_bytes(folder, b"\x89PNG\r\n\x1a\n"),
    "html": lambda folder: _with_bytes(folder, b"<html>404</html>"),
    "missing": lambda folder: folder / "missing.png",
    "pattern of nothing": lambda folder: folder / "*.webp",
    "empty folder": lambda folder: folder,
    "a device": lambda folder: Path("/dev/null"),
    "dangling link": lambda folder: (
        (folder / "bad.png").symlink_to("nowhere") or folder / "bad.png"
    ),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    result = transmit(tmp_path, BAD_IMAGES[case](folder))
    assert result.exit_code == 2, result.output
    assert "error:" in result.output or "failed:" in result.output
    written = list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []
    assert written == []


BAD_OPTIONS = {
    "SNR is text": ["--snr", "abc"],
    "SNR is NaN": ["--snr", "nan"],
    "SNR is infinite": ["--snr", "inf"],
    "SNR beyond float32": ["--snr", "5000"],
    "rate not offered": ["--rate", "1/100"],
    "rate is text": ["--rate", "low"],
    "rate is zero": ["--rate", "0"],
    "rate by zero": ["--rate", "1/0"],
    "unknown weights": ["--weights", "compakt"],
    "weights from a file": ["--weights", __file__],
    "unknown channel": ["--channel", "wire"],
    "unknown refiner": ["--refiner", "magic"],
    "no repeats": ["--repeats", "0"],
    "negative seed": ["--seed", "-1"],
    "unknown device": ["--device", "toaster"],
    "negative k-factor": ["--channel", "rician", "--k-factor", "-2"],
    "CSI without fading": ["--transmitter-csi"],
    "unknown option": ["--snrr", "1"],
    "figures into no folder": ["--json", "/dev/null/figures.json"],
    "figures onto a folder": ["--json", "/"],
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options(case: str, tmp_path: Path) -> None:
    source = image(tmp_path / "a.png")
    arguments = ["transmit", source, "-o", tmp_path / "out", *BAD_OPTIONS[case]]
    result = run(*arguments)
    assert result.exit_code == 2, result.output


def test_output_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("taken")
    result = transmit(tmp_path, image(tmp_path / "a.png"))
    assert result.exit_code == 2
    assert (tmp_path / "out").read_text() == "taken"


@pytest.mark.skipif(os.name != "posix", reason="needs a full device")
def test_full_disk(tmp_path: Path) -> None:
    source = image(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from diffjscc.cli import main; main()"
    )
    arguments = ["transmit", str(source), "--refiner", "none", "-o", str(tmp_path / "out")]
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_output(tmp_path: Path) -> None:
    source = image(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert transmit(tmp_path, source).exit_code == 2


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    image(folder / "a.png")
    _truncated(folder)
    image(folder / "c.png")
    figures = tmp_path / "figures.json"
    result = transmit(tmp_path, folder, "--json", figures)
    assert result.exit_code == 1
    assert "bad.png" in result.output
    assert {Path(row["image"]).name for row in json.loads(figures.read_text())} == {
        "a.png",
        "c.png",
    }


def test_equal_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        image(tmp_path / name / "a.png")
    result = transmit(tmp_path, tmp_path / "x" / "a.png", tmp_path / "y" / "a.png")
    assert result.exit_code == 0
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_an_snr_outside_the_trained_range_is_said(tmp_path: Path) -> None:
    result = transmit(tmp_path, image(tmp_path / "a.png"), "--snr", -20)
    assert result.exit_code == 0
    assert "outside the -5 to 20 dB" in result.output


def test_info() -> None:
    facts = json.loads(run("info", "--json").stdout)
    assert len(facts["weights"]["compact"]["hash"]) == 12
    text = run("info")
    assert text.exit_code == 0
    assert "compact" in text.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "jscc", "--config", "no-such-config"],
        ["train", "jscc", "--config", "paper-jscc", "run.batsh=3"],
        ["train", "jscc", "--config", "paper-jscc", "data.train=/nonexistent", "data.split=null"],
        ["train", "jscc", "--config", __file__],
    ],
)
def test_bad_training(arguments: list[str], tmp_path: Path) -> None:
    result = run(*arguments, "-o", tmp_path / "run")
    assert result.exit_code == 2, result.output
    assert "error:" in result.output


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from diffjscc.cli import app;"
        "assert CliRunner().invoke(app, ['transmit', '--help']).exit_code == 0;"
        "print([m for m in ('torch', 'numpy', 'PIL', 'accelerate', 'yaml') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_all_combinations_of_rates_and_snrs_are_sent(tmp_path: Path) -> None:
    """Names, rows and the table say which is which; one of each leaves names as they are."""
    source, rows = image(tmp_path / "a.png", 64, 48), tmp_path / "rows.jsonl"
    points = ["--snr", 1, "--snr=-7", "--rate", "1/64", "--rate", "0.0625"]
    result = transmit(tmp_path, source, *points, "--json", rows)
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    sent = {(row["nominal_rate"], row["nominal_snr_db"]): row for row in found}
    assert set(sent) == {("1/64", 1.0), ("1/64", -7.0), ("1/16", 1.0), ("1/16", -7.0)}
    assert len(found) == 4
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stems = [f"a-rate1-{n}-snr{snr}dB" for n in (64, 16) for snr in ("1", "-7")]
    assert names == {f"{stem}{end}.png" for stem in stems for end in ("", "-side-by-side")}
    assert "0.015625" in result.stdout
    assert "-7.00" in result.stdout
    alone = transmit(tmp_path / "x", source, "--snr=-7", "--rate", "1/16")
    assert alone.exit_code == 0, alone.output
    same = (tmp_path / "x" / "out" / "a.png").read_bytes()
    assert same == (tmp_path / "out" / "a-rate1-16-snr-7dB.png").read_bytes()


def test_schemes_and_channels_are_combined_too(tmp_path: Path) -> None:
    source, rows = image(tmp_path / "a.png", 64, 48), tmp_path / "rows.jsonl"
    schemes = ["--scheme", "deepjscc", "--scheme", "jpeg2000-capacity"]
    over = ["--channel", "awgn", "--channel", "rician", "--rate", "1/16", "--snr", 20]
    words = ["transmit", source, *schemes, *over, "-o", tmp_path / "out", "--json", rows]
    result = run(*words)
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    places = {(row["scheme"], row["channel"]) for row in found}
    assert {("deepjscc", "awgn"), ("deepjscc", "rician, K = 4")} <= places
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a-awgn-deepjscc.png", "a-rician-K-4-side-by-side.png"} <= names

"""`diffjscc transmit --scheme`: all over the same noise, one labelled image, one table."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from diffjscc import DiffJSCC
from diffjscc.cli import app
from diffjscc.cli.side_by_side import BLANK
from diffjscc.codecs.digital.source_codecs.source import SourceUnavailable
from diffjscc.codecs.low_snr import MEAN_COLOUR
from diffjscc.data.images import load_image, quantise
from diffjscc.report.panels import MARGIN, side_by_side
from locations import PHOTOGRAPHS

WIDTH, HEIGHT = 384, 256


@pytest.fixture(autouse=True)
def _no_network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No LPIPS; test_cli is about that."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("diffjscc.metrics.weights.download", _offline)


def _offline(url: str, path: Path, *_: object, **__: object) -> Path:
    from diffjscc.data.download import DownloadError  # noqa: PLC0415

    raise DownloadError(url, path, "no network in the tests")


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of a photograph, 384x256."""
    path = tmp_path_factory.mktemp("images") / "coffee.png"
    with Image.open(PHOTOGRAPHS / "coffee.webp") as whole:
        whole.crop((100, 50, 100 + WIDTH, 50 + HEIGHT)).save(path)
    return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["transmit", *map(str, arguments), "--device", "cpu"])
    if result.exception is not None:
        assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def schemes(*kinds: str) -> list[str]:
    return [word for kind in kinds for word in ("--scheme", kind)]


def panel(sheet: torch.Tensor, column: int, top: int = MARGIN) -> torch.Tensor:
    """The image in a column of a sheet of 384x256 panels."""
    left = MARGIN + column * (WIDTH + MARGIN)
    return sheet[:, top : top + HEIGHT, left : left + WIDTH]


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {row["scheme"]: row for row in json.loads(path.read_text())}


def test_all_schemes_side_by_side_over_the_same_noise(photograph: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    kinds = ["deepjscc", "diffjscc", "ddnm", "bpg-ldpc", "bpg-capacity"]
    where = [photograph, "--rate", "1/64", "--snr", 15, "--seed", 4]
    result = run(*where, *schemes(*kinds), "--steps", 2, "-o", out, "--json", figures)
    assert result.exit_code == 0, result.output
    rows = rows_of(figures)
    assert list(rows) == kinds
    assert {row["channel_uses"] for row in rows.values()} == {WIDTH * HEIGHT // 64}
    assert [rows[kind]["num_inference_steps"] for kind in kinds] == [None, 2, 2, None, None]
    assert [rows[kind]["outage"] for kind in kinds] == [False] * 5
    assert rows["bpg-ldpc"]["metrics"]["psnr"] < rows["bpg-capacity"]["metrics"]["psnr"]
    # The receiver's initial image is the codec's, and that is what transmit alone delivers.
    assert rows["diffjscc"]["initial_metrics"] == rows["deepjscc"]["metrics"]
    alone = run(
        *where, "--refiner", "none", "-o", tmp_path / "alone", "--json", tmp_path / "a.json"
    )
    assert alone.exit_code == 0, alone.output
    (row,) = json.loads((tmp_path / "a.json").read_text())
    assert row["metrics"]["psnr"] == rows["deepjscc"]["metrics"]["psnr"]
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted([*(f"coffee-{kind}.png" for kind in kinds), "coffee-side-by-side.png"])
    sheet = load_image(out / "coffee-side-by-side.png")
    assert sheet.shape[2] == 3 * (WIDTH + MARGIN) + MARGIN  # six images: two rows of three
    assert torch.equal(panel(sheet, 0), load_image(photograph))
    assert torch.equal(panel(sheet, 2), load_image(out / "coffee-diffjscc.png"))
    lower = [
        torch.equal(panel(sheet, 1, top), load_image(out / "coffee-bpg-ldpc.png"))
        for top in range(HEIGHT + MARGIN, sheet.shape[1] - HEIGHT)
    ]
    assert sum(lower) == 1
    for kind in kinds:
        assert kind in result.output


def test_an_adversarial_codec_has_weights_of_its_own(photograph: Path, tmp_path: Path) -> None:
    other = DiffJSCC.from_pretrained("compact", refiner=None, device="cpu")
    for parameter in other.codec.decoder.parameters():
        parameter.mul_(0.9)
    other.save_pretrained(tmp_path / "adv")

    def psnrs(name: str, *options: object) -> dict[str, float]:
        out = tmp_path / name
        result = run(photograph, "--seed", 4, *options, "-o", out, "--json", out / "rows.json")
        assert result.exit_code == 0, result.output
        return {kind: row["metrics"]["psnr"] for kind, row in rows_of(out / "rows.json").items()}

    compared = psnrs("both", *schemes("deepjscc", "adv"), "--adversarial", tmp_path / "adv")
    alone = {
        weights: psnrs(Path(weights).name + "-alone", "--weights", weights, "--refiner", "none")
        for weights in ("compact", str(tmp_path / "adv"))
    }
    ours, theirs = (alone[weights]["deepjscc"] for weights in ("compact", str(tmp_path / "adv")))
    assert compared == {"deepjscc": ours, "adv": theirs}
    assert ours != theirs


def test_what_cannot_be_sent_is_said_and_left_blank(photograph: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    kinds = schemes("jpeg-ldpc", "deepjscc")
    result = run(photograph, *kinds, "--repeats", 2, "-o", out, "--json", figures)
    assert result.exit_code == 0, result.output
    rows = json.loads(figures.read_text())
    assert [(row["scheme"], row["repeat"]) for row in rows] == [("deepjscc", 0), ("deepjscc", 1)]
    told = " ".join(result.output.split())
    assert "jpeg-ldpc cannot send" in told
    assert "768 channel uses of bpsk 2/3 hold" in told or "of bpsk 2/3 carry" in told
    sheet = load_image(out / "coffee-side-by-side.png")
    assert (panel(sheet, 1) - BLANK / 255).abs().max() < 1 / 255
    assert not (out / "coffee-jpeg-ldpc.png").exists()
    assert (out / "coffee-deepjscc-2.png").exists()
    nothing = run(photograph, *schemes("jpeg-ldpc", "bpg-ldpc"), "--snr", -30, "-o", tmp_path / "x")
    assert nothing.exit_code == 2
    assert "no modulation and code rate works at -30 dB" in " ".join(nothing.output.split())


def test_outages_are_named(photograph: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    at = ["--rate", "1/16", "--snr", 9, "--mcs", "16-qam 3/4"]
    kinds = schemes("webp-ldpc", "jpeg2000-capacity")
    result = run(photograph, *at, *kinds, "-o", out, "--json", figures)
    assert result.exit_code == 0, result.output
    assert "outage" in result.output
    assert rows_of(figures)["webp-ldpc"]["outage"] is True
    delivered = load_image(out / "coffee-webp-ldpc.png")
    colour = quantise(torch.tensor(MEAN_COLOUR)[:, None, None])
    assert (delivered - colour).abs().max() < 1e-3


def test_a_fixed_quality_and_fewer_pixels(photograph: Path, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.json"
    at = [photograph, "--rate", "1/16", "--snr", 20]
    result = run(*at, *schemes("webp-ldpc"), "--quality", 5, "-o", tmp_path / "a", "--json", fixed)
    assert result.exit_code == 0, result.output
    assert rows_of(fixed)["webp-ldpc"]["channel_uses"] < WIDTH * HEIGHT // 16
    fewer = tmp_path / "fewer.json"
    kinds = schemes("jpeg-capacity")
    low = [photograph, "--rate", "1/64", "--snr", 10, *kinds]
    assert run(*low, "-o", tmp_path / "b").exit_code == 2
    result = run(*low, "--downsample", "-o", tmp_path / "c", "--json", fewer)
    assert result.exit_code == 0, result.output
    assert list(rows_of(fewer)) == ["jpeg-capacity, downsampled"]
    assert (tmp_path / "c" / "coffee-jpeg-capacity-downsampled.png").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (schemes("bpg-ldcp"), "--scheme bpg-ldcp is not known; did you mean 'bpg-ldpc'?"),
        (schemes("deepjscc", "deepjscc"), "--scheme deepjscc is given more than once"),
        ([*schemes("jpeg-ldpc"), "--steps", "2"], "--steps: no effect on jpeg-ldpc"),
        (
            [*schemes("ddnm"), "--latent-guidance-scale", "1"],
            "--latent-guidance-scale: no effect on ddnm",
        ),
        ([*schemes("deepjscc"), "--downsample"], "--downsample: no effect on deepjscc"),
        ([*schemes("jpeg-capacity"), "--mcs", "bpsk 1/2"], "--mcs: no effect on jpeg-capacity"),
        ([*schemes("jpeg-ldpc"), "--mcs", "bpsk"], "'bpsk' is not a modulation and code rate"),
        ([*schemes("jpeg-ldpc"), "--quality", "101"], "jpeg has qualities 1 to 100, not 101"),
        (["--mcs", "bpsk 1/2"], "--mcs is for digital links; name one"),
        ([*schemes("diffjscc"), "--refiner", "none"], "leave them out, or --scheme"),
        ([*schemes("diffjscc"), "--uncertainty"], "leave them out, or --scheme"),
        ([*schemes("ddnm"), "--rate", "1/16"], "ddnm: rate 1/16 is not one of 1/512"),
        ([*schemes("bpg-ldpc"), "--rate", "-1"], "rate -1 must be above 0"),
        (schemes("deepjscc", "adv"), "--scheme adv needs a codec of its own; make one with"),
        ([*schemes("adv"), "--weights", "x"], "give the folder of its weights by --adversarial"),
        ([*schemes("adv"), "--adversarial", "a/b/c"], "weights 'a/b/c' are neither bundled"),
        ([*schemes("adv"), "--adversarial", ""], "the path is empty"),
        (
            [*schemes("deepjscc", "ddnm"), "--adversarial", "compact"],
            "--adversarial: no effect on deepjscc, ddnm; remove it, or add a scheme",
        ),
        (["--adversarial", "x"], "--adversarial x is for --scheme adv; add that, or give"),
        ([*schemes("adv"), "--adversarial", "compact", "--steps", "2"], "--steps: no effect on"),
    ],
)
def test_bad_options(options: list[str], told: str, photograph: Path, tmp_path: Path) -> None:
    result = run(photograph, *options, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_without_pyav(photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise SourceUnavailable("HEVC (BPG) needs PyAV: pip install 'diffjscc[digital]'")

    monkeypatch.setattr("diffjscc.codecs.digital.source_codecs.hevc._load_av", missing)
    result = run(photograph, *schemes("deepjscc", "bpg-ldpc"), "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "HEVC (BPG) needs PyAV: pip install" in " ".join(result.output.split())


def test_panels_wrap_into_rows() -> None:
    """A column is as wide as its widest image, a row as high as its highest."""
    sizes = [(400, 100), (330, 120), (500, 90), (320, 80), (320, 60)]
    images = [torch.full((3, height, width), 0.2 * i) for i, (width, height) in enumerate(sizes)]
    for image in images:
        image[1] = 1  # no letter is green
    sheet = side_by_side(images, list("abcde"), columns=2)
    assert sheet.shape[2] == 500 + 330 + 3 * MARGIN
    tops, lefts = [], []
    for image, (width, height) in zip(images, sizes, strict=True):
        colour = quantise(image[:, :1, :1])
        rows, columns = (sheet == colour).all(dim=0).nonzero(as_tuple=True)
        assert len(rows) == width * height
        tops.append(int(rows.min()))
        lefts.append(int(columns.min()))
    assert lefts == [MARGIN, 500 + 2 * MARGIN] * 2 + [MARGIN]
    assert MARGIN == tops[0] == tops[1] < tops[2] - 120 < tops[2] == tops[3] < tops[4] - 90
    one_row = side_by_side(images, list("abcde"))
    assert one_row.shape[2] == sum(width for width, _ in sizes) + 6 * MARGIN

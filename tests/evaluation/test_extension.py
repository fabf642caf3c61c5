"""A results folder that grows, is shared, is damaged, or holds transmissions that failed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from typer.testing import CliRunner

from diffjscc.cli import app
from diffjscc.configuration import check
from diffjscc.evaluation.compare import vanished
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.lines import ResultsError
from diffjscc.evaluation.results import Results, read_results
from diffjscc.evaluation.sweep import SweepRun
from diffjscc.evaluation.transmission import Link
from sweeps import run, start

# Batches of other sizes may round otherwise.
ROUNDING_DB = 1e-3

CHANNEL = """
from pathlib import Path
import torch
from diffjscc import AWGN

class Fragile(AWGN):
    def __call__(self, symbols, generator=None, state=None):
        received = super().__call__(symbols, generator, state)
        broken = (received.values[:, :1].real > 0) & (not Path("mended").exists())
        return symbols.received(received.values.masked_fill(broken, torch.nan), received.state)
"""


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three small images of one size."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        coarse = rng.uniform(0, 255, (4, 6, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC).save(
            folder / f"{name}.png"
        )
    return folder


def settings(images: Path, **changes: object) -> dict[str, Any]:
    return {
        "images": [str(images)],
        "schemes": [{"kind": "deepjscc"}],
        "rates": ["1/128"],
        "snrs_db": [1.0],
        "repeats": 2,
        "metrics": ["psnr"],
        "features": [],
        "shown": 1,
        "device": "cpu",
    } | changes


def transmissions(sweep: SweepRun) -> int:
    return sum(len(unit.transmissions) for unit in sweep.todo)


def rounded(results: Results) -> list[dict[str, object]]:
    """Records without seconds, metrics to what other batches may round otherwise."""
    rows = []
    for row in results.records:
        metrics = {name: round(value or 0, 2) for name, value in row.metrics.items()}
        rows.append(asdict(replace(row, seconds=0.0, metrics=metrics, snr_db=round(row.snr_db, 4))))
    return rows


GROWTH: dict[str, dict[str, Any]] = {
    "SNRs": {"snrs_db": [-3.0, 1.0, 7.0]},
    "rates": {"rates": ["1/16", "1/128"]},
    "repeats": {"repeats": 5},
    "schemes": {"schemes": [{"kind": "deepjscc", "label": "another"}, {"kind": "deepjscc"}]},
    "channels": {"channels": [{"name": "rayleigh"}, {"name": "awgn"}]},
    "all": {"snrs_db": [1.0, 7.0], "repeats": 3, "rates": ["1/128", "1/64"]},
}


@pytest.mark.parametrize("axis", GROWTH)
def test_a_sweep_is_extended(axis: str, images: Path, tmp_path: Path) -> None:
    before = run(settings(images), tmp_path / "grown")
    larger = settings(images, **GROWTH[axis])
    once = run(larger, tmp_path / "once")
    sweep = start(larger, tmp_path / "grown")
    assert transmissions(sweep) == len(once.records) - len(before.records) > 0
    assert sweep.repaired == []
    grown = sweep.run(lambda _: None)
    assert rounded(grown) == rounded(once)
    assert all(row in grown.records for row in before.records)
    assert [one.point for one in grown.kept] == [one.point for one in once.kept]
    assert start(larger, tmp_path / "grown").todo == []
    with pytest.raises(ResultsError, match="choose another folder"):
        run(settings(images), tmp_path / "grown")


def test_images_are_added(images: Path, tmp_path: Path) -> None:
    before = run(settings(images / "b.png"), tmp_path / "grown")
    sweep = start(settings(images), tmp_path / "grown")
    assert transmissions(sweep) == 4
    grown = sweep.run(lambda _: None)
    assert rounded(grown) == rounded(run(settings(images), tmp_path / "once"))
    assert [row for row in grown.records if row.image == "b"] == list(before.records)
    Image.new("RGB", (96, 64), "teal").save(images / "b.png")
    with pytest.raises(ResultsError, match="images differ: b"):
        run(settings(images), tmp_path / "grown")


def test_a_run_that_was_killed_is_extended(images: Path, tmp_path: Path) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    def kill(_: int) -> None:
        raise Killed

    sweep = start(settings(images, megapixels=0.001), tmp_path / "grown")
    with pytest.raises(Killed):
        sweep.run(kill)
    larger = settings(images, megapixels=0.001, repeats=3)
    sweep = start(larger, tmp_path / "grown")
    assert transmissions(sweep) == 9 - 2
    assert rounded(sweep.run(lambda _: None)) == rounded(run(larger, tmp_path / "once"))


def test_distances_are_measured_of_the_larger_sets(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        coarse = Image.fromarray(rng.uniform(0, 255, (16, 24, 3)).astype(np.uint8))
        coarse.resize((384, 256), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    values = settings(folder / "a.png", features=["squeezenet"], repeats=1)
    small = run(values, tmp_path / "grown")
    more_snrs = run(values | {"snrs_db": [1.0, 7.0]}, tmp_path / "grown")
    assert more_snrs.distances[0] == small.distances[0]
    larger = settings(folder, features=["squeezenet"], snrs_db=[1.0, 7.0], repeats=2)
    grown = run(larger, tmp_path / "grown")
    once = run(larger, tmp_path / "once")
    assert [one.patches for one in grown.distances] == [one.patches for one in once.distances]
    for one, other in zip(grown.distances, once.distances, strict=True):
        assert one.frechet == pytest.approx(other.frechet, rel=1e-3)
    (tmp_path / "grown" / "distances.jsonl").write_text("")
    again = run(larger, tmp_path / "grown")
    assert again.distances == grown.distances


def test_without_features_distances_are_not_invented(tmp_path: Path) -> None:
    Image.new("RGB", (384, 256), "teal").save(tmp_path / "a.png")
    values = settings(tmp_path / "a.png", features=["squeezenet"], repeats=1)
    folder = tmp_path / "grown"
    run(values, folder)
    for file in (folder / "features").rglob("*.npy"):
        file.unlink()
    assert len(run(values | {"snrs_db": [1.0, 4.0]}, folder).distances) == 2
    with pytest.raises(ResultsError, match="lacks features of what was sent"):
        run(values | {"snrs_db": [1.0, 4.0], "repeats": 2}, folder)
    assert len(read_results(folder).records) == 2


def test_two_runs_do_not_share_a_folder(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    first = start(settings(images), folder)
    with pytest.raises(ResultsError, match=rf"in use by process {os.getpid()} on "):
        start(settings(images), folder)
    first.run(lambda _: None)
    assert not (folder / ".lock").exists()
    assert len(run(settings(images), folder).records) == 6


def test_the_lock_of_a_process_that_died_is_free(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    program = (
        "import sys, time; from pathlib import Path\n"
        "from diffjscc.data.lock import FolderLock\n"
        f"held = FolderLock(Path({str(folder / '.lock')!r})); print('held', flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ResultsError, match=f"in use by process {process.pid} on "):
            start(settings(images), folder)
        process.send_signal(signal.SIGKILL)
    assert len(run(settings(images), folder).records) == 6


@pytest.mark.parametrize("damage", ["cut", "cut at a line", "emptied", "doubled", "one less"])
def test_damaged_records_are_found_and_made_again(
    damage: str, images: Path, tmp_path: Path
) -> None:
    values, folder = settings(images), tmp_path / "results"
    whole = run(values, folder)
    file = folder / "rows.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(
        {
            "cut": b"".join(lines)[:-40],
            "cut at a line": b"".join(lines[:4]),
            "emptied": b"",
            "doubled": b"".join([*lines, lines[2]]),
            "one less": b"".join(lines[1:]),
        }[damage]
    )
    with pytest.raises(ResultsError, match="diffjscc evaluate"):
        read_results(folder)
    sweep = start(values, folder)
    assert sweep.repaired
    mended = sweep.run(lambda _: None)
    assert rounded(mended) == rounded(whole)
    assert mended.kept == whole.kept


def test_failed_transmissions_are_noted_and_tried_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragile_channel.py").write_text(CHANNEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    words = [
        *("evaluate", str(images), "-o", "results", "--scheme", "deepjscc", "--repeats", "4"),
        *("--channel", "fragile_channel:Fragile", "--snr", "1", "--set", "metrics=[psnr]"),
    ]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 1, told.output
    results = read_results(tmp_path / "results")
    failed = [one for one in results.absent if one.failed]
    assert 0 < len(failed) < 12
    assert len(results.records) + len(failed) == 12
    assert {one.reason for one in failed} == {"Fragile gave NaN or infinite symbols"}
    assert f"{len(failed)} transmissions failed" in told.stderr
    Path("mended").touch()
    assert CliRunner().invoke(app, words).exit_code == 0
    mended = read_results(tmp_path / "results")
    assert len(mended.records) == 12
    assert all(row in mended.records for row in results.records)
    assert vanished(mended, results)
    assert not vanished(results, mended)


@pytest.mark.parametrize("place", ["transmission", "samples"])
def test_too_little_memory_is_noted(
    place: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = settings(images, shown=3)
    names = iter(range(100))
    if place == "transmission":

        def full(*_: object) -> None:
            if next(names) in (0, 2, 4):  # all at once, the second image, its first transmission
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.3 GiB")

        received = Link._decode
        monkeypatch.setattr(Link, "_decode", lambda *words: (full(), received(*words))[1])
    else:

        def full(*_: object) -> None:
            if next(names) == 1:
                raise RuntimeError("DefaultCPUAllocator: not enough memory")

        kept = SweepRun._keep
        monkeypatch.setattr(SweepRun, "_keep", lambda *words: (full(), kept(*words))[1])
    results = run(values, tmp_path / "results")
    lost = [(one.image, one.repeat) for one in results.absent]
    assert lost == [("b", 0)]
    assert len(results.records) + len(lost) == 6
    assert all(one.failed and "is too small; use " in one.reason for one in results.absent)
    assert len(run(values, tmp_path / "results").records) == 6


def test_many_repeats_are_split_into_small_batches(images: Path) -> None:
    from diffjscc.evaluation.plan import make_units  # noqa: PLC0415
    from diffjscc.evaluation.results import ImageInfo  # noqa: PLC0415

    config = check(SweepConfig, settings(images, repeats=10_000, megapixels=2), "test")
    units = make_units(config, [ImageInfo("a", "", 768, 512)])
    assert max(len(unit.transmissions) for unit in units) <= 20
    assert sum(len(unit.transmissions) for unit in units) == 10_000


def test_sampling_steps_are_reported(images: Path, tmp_path: Path) -> None:
    """Of every refiner that samples; a codec alone has none."""
    refiner = {"num_inference_steps": 2}
    schemes = [{"kind": "deepjscc"}, {"kind": "diffjscc", "refiner": refiner}]
    sweep = start(settings(images, schemes=schemes, repeats=1, shown=0), tmp_path / "results")
    seen: list[tuple[int, int]] = []
    sweep.steps = lambda done, total: seen.append((done, total))
    sweep.run(lambda _: None)
    assert {(done <= total <= 2) for done, total in seen} == {True}
    assert sum(done == total for done, total in seen) == 1  # all images at once

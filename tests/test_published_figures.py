"""The figures that README and docs publish are those of the rows in results/."""

import json
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import groupby, product
from pathlib import Path

import pytest

from diffjscc.evaluation.experiments import SHEETS
from diffjscc.evaluation.results import Results, read_results
from diffjscc.evaluation.statistics import Summary, summarise
from diffjscc.pretrained.pretrained import open_weights, weights_hash
from diffjscc.schemes.config import SchemeConfig
from locations import ROOT

RESULTS = ROOT / "results" / "compact-kodak"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPER = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs" / "training-log.md").read_text(encoding="utf-8")
RATES = ("1/128", "1/64", "1/32", "1/16")
IMAGES = 24
# The weights before the texture map, whole and in part; all but `default` was measured with them.
BEFORE = {"diffjscc": "8a81dcd33f30", "deepjscc": "7b2e1c531afa", "ddnm": "138ed40c2d09"}
FOLDERS = sorted(path.parent for path in ROOT.glob("results/*/*/setup.json"))


@cache
def read(folder: Path) -> Results:
    """Once: the larger folders take seconds."""
    return read_results(folder)


@cache
def summaries(name: str) -> list[Summary]:
    """Of a folder of results, in its order."""
    return summarise([read(RESULTS / name)])


def mean(summary: Summary, name: str) -> float:
    """Of a figure of merit over the images."""
    return summary.estimates[name].mean


def frechet(summary: Summary) -> float:
    """The distance on SqueezeNet's features."""
    return summary.distances["squeezenet"].frechet


def told(summary: Summary) -> str:
    """As tables have a cell's figures."""
    if summary.absent:
        return f"{IMAGES - summary.absent} of {IMAGES} images fit | | | |"
    psnr, ms_ssim, lpips, niqe = (
        mean(summary, name) for name in ("psnr", "ms_ssim", "lpips", "niqe")
    )
    return f"{psnr:.2f} | {ms_ssim:.3f} | {lpips:.3f} | {niqe:.1f} | {frechet(summary):.0f}"


def in_short(summary: Summary) -> str:
    """LPIPS and Fréchet distance, where a table has little room."""
    return f"{mean(summary, 'lpips'):.3f} / {frechet(summary):.0f}"


def over_steps(cells: Iterable[Summary]) -> list[str]:
    """A row per sampler: LPIPS and Fréchet distance, from few steps to many."""
    rows = []
    for name, own in groupby(cells, lambda cell: cell.scheme.rpartition(", ")[0]):
        values = [
            in_short(cell) for cell in sorted(own, key=lambda cell: cell.num_inference_steps or 0)
        ]
        rows.append(f"| {name} | {' | '.join(values)} |")
    return rows


def gains(cells: Iterable[Summary]) -> list[str]:
    """What the receiver changes at 1 dB, as the paper puts it."""
    at = {cell.scheme: cell for cell in cells if cell.nominal_snr_db == 1}
    before, after = at["deepjscc"], at["diffjscc"]
    lpips = mean(after, "lpips") / mean(before, "lpips") - 1
    distance = frechet(after) / frechet(before) - 1
    psnr, ms_ssim = (mean(after, name) - mean(before, name) for name in ("psnr", "ms_ssim"))
    return [f"{lpips:.0%}", f"{distance:.0%}", f"{psnr:.2f} dB", f"{ms_ssim:.3f}"]


def test_the_table_of_the_readme() -> None:
    for name, called in (("compact-kodak", "Kodak"), ("compact-modern", "of today")):
        results = read(RESULTS.parent / name / "default")
        at = {summary.point: summary for summary in summarise([results])}
        for rate in RATES:
            for scheme, images in (("deepjscc", "codec alone"), ("diffjscc", "with receiver")):
                summary = at[scheme, "awgn", rate, 1.0]
                assert summary.estimates["psnr"].transmissions == IMAGES
                assert f"| {called}, {rate} | {images} | {told(summary)} |" in README


def test_the_gains_beside_the_papers() -> None:
    stated = ("about -40 %", "about -60 %", "-1.5 dB", "-0.06")
    for paper, here in zip(stated, gains(summaries("fig4")), strict=True):
        assert f"| {paper} | {here.replace('%', ' %')} |" in PAPER


def test_the_rivals_table() -> None:
    for cell in summaries("fig4"):
        if cell.nominal_snr_db in (1, 13):
            assert f"| {cell.scheme} | {cell.nominal_snr_db:g} dB | {told(cell)} |" in PAPER


def test_the_receiver_gains_at_every_rate_and_snr() -> None:
    points = {}
    for name in ("fig3", "fig4", "grid"):
        for cell in summaries(name):
            points[cell.scheme, cell.nominal_rate, cell.nominal_snr_db] = cell
    for rate, snr_db in product(RATES, (1, 4, 7, 10, 13)):
        before, after = points["deepjscc", rate, snr_db], points["diffjscc", rate, snr_db]
        for name in ("lpips", "niqe"):
            assert mean(after, name) < mean(before, name)
        assert frechet(after) < frechet(before)
        if snr_db > 1 and rate != "1/128":
            values = [f"{mean(cell, 'psnr'):.2f} / {in_short(cell)}" for cell in (before, after)]
            assert f"| {rate}, {snr_db} dB | {values[0]} | {values[1]} |" in TRAINING


def test_what_the_control_module_is_told() -> None:
    for cell in summaries("fig6"):
        assert f"| {cell.scheme} | {cell.nominal_snr_db:g} dB | {told(cell)} |" in PAPER


def test_the_tables_of_steps() -> None:
    for row in over_steps(summaries("steps")):
        assert row in TRAINING
    cells = summaries("fig7")
    for snr_db in (1, 7, 13):
        for row in over_steps(cell for cell in cells if cell.nominal_snr_db == snr_db):
            assert row in PAPER


every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


@every_folder
def test_published_results_are_whole(folder: Path) -> None:
    """Every image was sent at every point, or it is said why not; whole cells have distances."""
    published = read(folder)
    settings, images = published.setup.sweep, len(published.setup.images)
    assert images == SHEETS.get(folder.name, IMAGES)
    sent = Counter(row.point for row in published.records)
    missing = Counter(absent.point for absent in published.absent)
    for cell in sent.keys() | missing.keys():
        assert sent[cell] == (images - missing[cell]) * settings["repeats"], cell
    if folder.name in SHEETS:
        assert not published.distances
        return
    sizes = {row.image: (row.width, row.height) for row in published.records}
    patches = sum((w // 128 - 1) * (h // 128 - 1) for w, h in sizes.values())
    assert {cell.point for cell in published.distances} == sent.keys() - missing.keys()
    assert {cell.patches for cell in published.distances} == {patches * settings["repeats"]}


@every_folder
def test_results_are_of_the_weights_that_they_should_be(folder: Path) -> None:
    """To the byte; the receiver samples as they say where a sweep does not say otherwise.

    Those before sampled in `num_inference_steps`, by the module that was not distilled.
    """
    published = read(folder)
    bundled = open_weights("compact").folder
    uses = {"diffjscc": None, "deepjscc": ["codec"], "ddnm": ["codec", "unet", "vae"]}
    ours = [
        choice
        for choice in map(SchemeConfig.model_validate, published.setup.sweep["schemes"])
        if choice.kind in uses and choice.weights == "compact"
    ]
    assert ours
    default = json.loads((bundled / "refiner.json").read_text())["sampler"]
    for choice in ours:
        now = weights_hash(bundled, uses[choice.kind])
        expected = now if folder.name == "default" else BEFORE[choice.kind]
        assert published.setup.weights[choice.name] == f"compact@{expected}", choice.name
        if choice.kind == "diffjscc":
            options = choice.refiner
            few = default["distilled_steps"] if folder.name == "default" else None
            sampler = (
                options.sampler or default["name"],
                options.num_inference_steps or few or default["num_inference_steps"],
            )
            rows = [row for row in published.records if row.scheme == choice.name]
            assert {(row.sampler, row.num_inference_steps) for row in rows} == {sampler}, (
                choice.name
            )
    drawn = {
        kind: {path.stem for path in folder.glob(f"figures/*.{kind}")} for kind in ("png", "jpg")
    }
    # Sheets of images are made smaller, and the images themselves left out.
    assert drawn["jpg"] if folder.name in SHEETS else drawn["png"]
    assert not list(folder.rglob("*.svg"))  # `diffjscc plot` makes them again
    assert f"`{folder.parent.name}/{folder.name}`" in (ROOT / "results/README.md").read_text()

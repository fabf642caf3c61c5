"""Digital links in sweeps: what cannot be sent, outages, and what figures and report make of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffjscc.codecs.digital.mcs import thresholds_db
from diffjscc.codecs.low_snr import MEAN_COLOUR
from diffjscc.configuration import check
from diffjscc.data.images import load_image, quantise
from diffjscc.evaluation.results import Results, read_results
from diffjscc.evaluation.statistics import summarise
from diffjscc.metrics.fidelity import psnr
from diffjscc.report.figures import make_plots, write_figures
from diffjscc.report.page import write_report
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.digital_options import DigitalOptions
from sweeps import run, start

BPSK = {"mcs": "bpsk 2/3"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of one size: of one colour, smooth, and noise."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.uniform(0, 255, (4, 6, 3)).astype(np.uint8))
    Image.new("RGB", (192, 128), (90, 120, 60)).save(folder / "plain.png")
    coarse.resize((192, 128), Image.Resampling.BICUBIC).save(folder / "smooth.png")
    Image.fromarray(rng.uniform(0, 255, (128, 192, 3)).astype(np.uint8)).save(folder / "wild.png")
    return folder


def settings(images: Path, *schemes: dict[str, Any], **changes: object) -> dict[str, Any]:
    """A small sweep, without figures that need other weights."""
    return {
        "images": [str(images)],
        "schemes": list(schemes),
        "rates": ["1/16"],
        "snrs_db": [10.0],
        "repeats": 2,
        "metrics": ["psnr"],
        "features": [],
        "shown": 3,
        "device": "cpu",
    } | changes


@pytest.fixture
def partial(images: Path, tmp_path: Path) -> Results:
    """At 1/16 the noise does not fit, at 1/64 the smooth image does not either."""
    schemes = {"kind": "deepjscc"}, {"kind": "webp-capacity"}
    return run(settings(images, *schemes, rates=["1/64", "1/16"]), tmp_path / "partial")


def test_what_cannot_be_sent_is_written_down_and_not_invented(partial: Results) -> None:
    digital = [row for row in partial.records if row.scheme == "webp-capacity"]
    assert {(row.image, row.nominal_rate, row.repeat) for row in digital} == {
        (name, rate, repeat)
        for name, rate in (("plain", "1/16"), ("smooth", "1/16"), ("plain", "1/64"))
        for repeat in (0, 1)
    }
    assert {row.outage for row in digital} == {False}
    assert {row.outage for row in partial.records if row.scheme == "deepjscc"} == {False}
    found = {(absent.image, absent.nominal_rate): absent.reason for absent in partial.absent}
    assert list(found) == [("smooth", "1/64"), ("wild", "1/64"), ("wild", "1/16")]
    assert "coarsest quality, but 1,536 channel uses at 10 dB carry 5,313" in found["wild", "1/16"]
    kept = {(shown.scheme, shown.image, shown.nominal_rate) for shown in partial.kept}
    assert ("webp-capacity", "wild", "1/16") not in kept
    assert ("webp-capacity", "smooth", "1/16") in kept
    assert all((partial.folder / shown.final).exists() for shown in partial.kept)
    assert read_results(partial.folder) == partial


def test_a_run_goes_on_after_images_that_cannot_be_sent(images: Path, tmp_path: Path) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    def kill(_: int) -> None:
        raise Killed

    values = settings(images, {"kind": "webp-capacity"}, {"kind": "jpeg2000-ldpc"})
    whole = run(values, tmp_path / "whole")
    folder = tmp_path / "parts"
    for remaining in (2, 1):
        sweep = start(values, folder)
        assert len(sweep.todo) == remaining
        with pytest.raises(Killed):
            sweep.run(kill)
    assert not start(values, folder).todo
    parts = run(values, folder)
    assert parts.absent == whole.absent
    assert [(row.point, row.image, row.metrics["psnr"]) for row in parts.records] == [
        (row.point, row.image, row.metrics["psnr"]) for row in whole.records
    ]


def test_means_of_those_that_fit_are_not_compared(partial: Results, tmp_path: Path) -> None:
    cells = {(cell.scheme, cell.nominal_rate): cell for cell in summarise([partial])}
    assert cells["webp-capacity", "1/16"].absent == 1
    assert cells["webp-capacity", "1/16"].estimates["psnr"].images == 2
    assert cells["webp-capacity", "1/64"].absent == 2
    assert cells["deepjscc", "1/16"].absent == 0
    (name, figure), *_ = make_plots(summarise([partial]), None)
    assert name == "over-rate"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["deepjscc"]
    title = figure.get_suptitle().replace("\n", " ")
    assert "no points where an image cannot be sent: webp-capacity" in title
    page = tmp_path / "report.html"
    write_report([partial], page)
    text = page.read_text()
    assert "cannot send 1 image<" in text
    assert "cannot send 2 images<" in text
    assert "wild: webp takes" in text
    assert "they are not compared" in text
    summary = text.partition('id="summary-table"')[2].partition("</table>")[0]
    lines = [line for line in summary.split("<tr>") if "cannot send" in line]
    assert len(lines) == 2
    assert not any("<strong>" in line for line in lines)


def test_a_scheme_that_sends_nothing_has_no_means(images: Path, tmp_path: Path) -> None:
    values = settings(images, {"kind": "deepjscc"}, {"kind": "jpeg-ldpc"}, rates=["1/128"])
    results = run(values, tmp_path / "results")
    assert {row.scheme for row in results.records} == {"deepjscc"}
    assert len(results.absent) == 3
    none = next(cell for cell in summarise([results]) if cell.scheme == "jpeg-ldpc")
    assert (none.absent, none.estimates, none.rate) == (3, {}, 1 / 128)
    write_figures([results], tmp_path / "figures")
    write_report([results], tmp_path / "report.html")
    assert "cannot send 3 images" in (tmp_path / "report.html").read_text()


def test_outages_are_counted_and_shown(images: Path, tmp_path: Path) -> None:
    threshold_db = thresholds_db()["16-qam 3/4"]
    link = {"kind": "jpeg2000-ldpc", "digital": {"mcs": "16-qam 3/4"}}
    snrs_db = [threshold_db - 3, threshold_db + 1]
    values = settings(images, {"kind": "deepjscc"}, link, snrs_db=snrs_db)
    results = run(values, tmp_path / "results")
    lost = [row for row in results.records if row.outage]
    assert {row.nominal_snr_db for row in lost} == {threshold_db - 3}
    assert len(lost) == 3 * 2
    colour = torch.tensor(MEAN_COLOUR)[:, None, None].expand(3, 128, 192)
    for row in lost:
        original = load_image(images / f"{row.image}.png")
        expected = psnr(quantise(colour)[None], original[None]).item()
        assert row.metrics["psnr"] == pytest.approx(expected, abs=1e-4)
        assert row.channel_uses == 128 * 192 // 16 == sum(row.uses_by_kind.values())
    found = {(cell.scheme, cell.nominal_snr_db): cell.estimates for cell in summarise([results])}
    assert found["jpeg2000-ldpc", threshold_db - 3]["outage"].mean == 1
    assert found["jpeg2000-ldpc", threshold_db + 1]["outage"].mean == 0
    assert found["deepjscc", threshold_db + 1]["outage"].mean == 0
    (_, figure), *_ = make_plots(summarise([results]), None)
    assert "outage rate" in [ax.get_ylabel() for ax in figure.axes]
    page = tmp_path / "report.html"
    write_report([results], page)
    text = page.read_text()
    assert "outage rate" in text
    assert "1.000" in text
    assert '"outage"' in text.partition('id="data"')[2]  # for single transmissions


def test_without_outages_there_is_no_panel_of_them(partial: Results) -> None:
    (_, figure), *_ = make_plots(summarise([partial]), None)
    assert "outage rate" not in [ax.get_ylabel() for ax in figure.axes]


def test_a_fixed_quality_is_sent_image_by_image(images: Path, tmp_path: Path) -> None:
    """QP swept at 2/3 and BPSK, as in the paper: the rate follows from image and QP."""
    schemes = [
        {
            "kind": "bpg-ldpc",
            "label": f"QP {qp}",
            "digital": {"mcs": "bpsk 2/3", "quality": 51 - qp},
        }
        for qp in (47, 37)
    ]
    values = settings(images, *schemes, rates=["1"], snrs_db=[2.0], repeats=1)
    results = run(values, tmp_path / "results")
    rates = {(row.scheme, row.image): row.rate for row in results.records}
    assert rates["QP 47", "smooth"] < rates["QP 37", "smooth"] < 0.5
    assert rates["QP 37", "plain"] < rates["QP 37", "smooth"]
    assert {absent.image for absent in results.absent} == {"wild"}
    assert "rate allows 24,576" in results.absent[0].reason


def test_patches_of_some_images_are_no_set(tmp_path: Path) -> None:
    """A Fréchet distance of the images that fit would compare with nothing."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.uniform(0, 255, (384, 256, 3)).astype(np.uint8)).save(folder / "wild.png")
    Image.new("RGB", (256, 384), (90, 120, 60)).save(folder / "plain.png")
    schemes = {"kind": "webp-capacity"}, {"kind": "deepjscc"}
    values = settings(folder, *schemes, rates=["1/16"], features=["squeezenet"], repeats=1)
    results = run(values, tmp_path / "results")
    assert [(absent.scheme, absent.image) for absent in results.absent] == [
        ("webp-capacity", "wild")
    ]
    assert {cell.scheme for cell in results.distances} == {"deepjscc"}


def test_schemes_are_checked() -> None:
    for values, told in [
        (
            {"kind": "bpg-ldpc", "refiner": {"num_inference_steps": 3}},
            "--steps: no effect on bpg-ldpc",
        ),
        ({"kind": "deepjscc", "digital": {"mcs": "bpsk 1/2"}}, "digital is for digital links"),
        ({"kind": "bpg-ldpc", "digital": {"msc": "bpsk 1/2"}}, "did you mean 'mcs'"),
        ({"kind": "bpg-ldpc", "digital": {"mcs": "8-psk 1/2"}}, "'8-psk 1/2' is not a modulation"),
    ]:
        with pytest.raises(ValueError, match=told):
            check(SchemeConfig, values, "test")
    choice = SchemeConfig(kind="bpg-capacity", digital=DigitalOptions(downsample=True))
    assert choice.name == "bpg-capacity, downsampled"

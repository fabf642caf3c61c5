"""The sweep: its rows, resumption, shares of several processes, and refusals."""

import json
import time
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from diffjscc.configuration import check
from diffjscc.data.images import load_image
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.journal import Journal
from diffjscc.evaluation.layout import Layout, point_name
from diffjscc.evaluation.lines import ResultsError
from diffjscc.evaluation.plan import make_points, make_units
from diffjscc.evaluation.results import (
    ImageInfo,
    Results,
    read_results,
    read_setup,
    write_setup,
)
from diffjscc.evaluation.sweep_features import SweepFeatures
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.metrics.feature_networks import patches
from diffjscc.metrics.feature_store import FeatureFolder
from diffjscc.metrics.fidelity import psnr
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig
from locations import ROOT
from processes import Started
from sweeps import run, start
from toy_results import toy_record

# Batches of other sizes may round otherwise.
ROUNDING_DB = 1e-3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images, two of one size."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, (height, width) in (("a", (64, 96)), ("b", (64, 96)), ("c", (80, 48))):
        coarse = rng.uniform(0, 255, (height // 16, width // 16, 3)).astype(np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        smooth.save(folder / f"{name}.png")
    return folder


def settings(images: Path, **changes: object) -> dict[str, Any]:
    """A small sweep, without figures that need other weights."""
    return {
        "images": [str(images)],
        "schemes": [{"kind": "deepjscc"}],
        "rates": ["1/128", "1/32"],
        "snrs_db": [1.0, 7.0],
        "repeats": 2,
        "metrics": ["psnr"],
        "features": [],
        "shown": 1,
        "device": "cpu",
    } | changes


def without_seconds(results: Results) -> list[dict[str, object]]:
    """Everything but the time that it took, which no two runs share."""
    return [asdict(replace(row, seconds=0.0)) for row in results.records]


def test_a_row_per_transmission_with_true_figures(images: Path, tmp_path: Path) -> None:
    results = run(settings(images), tmp_path / "results")
    assert len(results.records) == 2 * 2 * 3 * 2
    assert [row.image for row in results.records[:6]] == ["a", "a", "b", "b", "c", "c"]
    for row in results.records:
        width, height = (48, 80) if row.image == "c" else (96, 64)
        assert (row.width, row.height) == (width, height)
        assert row.channel_uses == width * height * Fraction(row.nominal_rate)
        assert row.uses_by_kind == {"image": row.channel_uses, "padding": 0}
        assert row.rate == pytest.approx(float(Fraction(row.nominal_rate)))
        assert row.snr_db == pytest.approx(row.nominal_snr_db, abs=1e-4)
        assert row.initial_metrics is None
        assert row.seconds > 0
        assert "torch" in row.versions
    assert len({(row.point, row.image, row.metrics["psnr"]) for row in results.records}) == len(
        results.records
    )
    assert not (results.folder / "unfinished").exists()


def test_padding_is_counted_apart(tmp_path: Path) -> None:
    Image.new("RGB", (33, 20), "teal").save(tmp_path / "odd.png")
    (row, *_) = run(settings(tmp_path, repeats=1), tmp_path / "results").records
    assert row.channel_uses == 3 * 2 * 2  # 48x32 pixels at 1/128
    assert row.uses_by_kind == {"image": 6, "padding": 6}  # 33x20 pixels are 5.16 uses


def test_the_kept_images_are_those_that_were_measured(images: Path, tmp_path: Path) -> None:
    schemes = [{"kind": "deepjscc"}, {"kind": "diffjscc", "refiner": {"num_inference_steps": 2}}]
    values = settings(images, schemes=schemes, rates=["1/128"], snrs_db=[1.0], repeats=1)
    results = run(values, tmp_path / "results")
    alone, refined = results.kept
    assert alone.initial is None
    assert refined.initial is not None

    def level(name: str, shown_original: str) -> float:
        images = [load_image(results.folder / file)[None] for file in (name, shown_original)]
        return psnr(*images).item()

    row = results.record_of(refined)
    assert level(alone.final, alone.original) == pytest.approx(
        results.record_of(alone).metrics["psnr"], abs=1e-4
    )
    assert level(refined.final, refined.original) == pytest.approx(row.metrics["psnr"], abs=1e-4)
    assert level(refined.initial, refined.original) == pytest.approx(
        row.initial_metrics["psnr"], abs=1e-4
    )
    assert row.num_inference_steps == 2
    # The receiver was given what the codec alone delivers over the same noise.
    assert row.initial_metrics["psnr"] == results.record_of(alone).metrics["psnr"]


def test_noise_is_the_same_for_every_scheme_and_as_transmit_has_it(
    images: Path, tmp_path: Path
) -> None:
    schemes = [{"kind": "deepjscc", "label": name} for name in ("one", "two")]
    values = settings(images, schemes=schemes, channels=[{"name": "rayleigh"}], seed=3)
    rows = run(values, tmp_path / "results").records
    one, two = ([row for row in rows if row.scheme == name] for name in ("one", "two"))
    assert [row.metrics["psnr"] for row in one] == [row.metrics["psnr"] for row in two]
    assert [row.snr_db for row in one] == [row.snr_db for row in two]
    assert len({row.snr_db for row in one if row.point == one[0].point}) == 6  # fades differ
    scheme = DiffJSCC.from_pretrained("compact", "1/32", refiner=None, device="cpu")
    channel = ChannelConfig(name="rayleigh")
    evaluator, _ = MetricEvaluator.load(["psnr"])
    at_snr, cpu = channel.at(7.0), torch.device("cpu")
    link = Link("", scheme, at_snr, channel.label, 7.0, 3, evaluator, cpu)
    (delivery,) = link.transmit([SourceImage.read(images / "b.png")], [1])
    wanted = ("one", "rayleigh", "1/32", 7.0), "b", 1
    (row,) = (row for row in one if (row.point, row.image, row.repeat) == wanted)
    assert delivery.record.metrics["psnr"] == pytest.approx(row.metrics["psnr"], abs=ROUNDING_DB)
    assert delivery.record.snr_db == pytest.approx(row.snr_db, abs=1e-5)


def test_what_is_interrupted_goes_on(images: Path, tmp_path: Path) -> None:
    values = settings(images)
    whole = run(values, tmp_path / "whole")

    class Killed(Exception):  # noqa: N818
        pass

    def after(limit: int) -> Any:
        sent = 0

        def count(transmissions: int) -> None:
            nonlocal sent
            sent += transmissions
            if sent >= limit:
                raise Killed

        return count

    folder = tmp_path / "parts"
    remaining = []
    for limit in (3, 8):
        sweep = start(values, folder)
        remaining.append(len(sweep.todo))
        with pytest.raises(Killed):
            sweep.run(after(limit))
        with pytest.raises(ResultsError, match="not finished"):
            read_results(folder)
    ledger = folder / "unfinished" / "rows-0.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-20])  # as if the disk had taken half a line
    parts = run(values, folder)
    assert remaining[0] > remaining[1] > 0
    assert without_seconds(parts) == without_seconds(whole)
    assert parts.kept == whole.kept
    assert start(values, folder).todo == []
    assert run(values, folder) == parts


def test_kill_9_and_two_processes_leave_the_same_rows(images: Path, tmp_path: Path) -> None:
    device = "cpu" if torch.cuda.is_available() else "auto"  # which must find two processes too
    values = settings(images, device=device)
    config = tmp_path / "sweep.yaml"
    config.write_text(yaml.safe_dump(values))
    words = ["evaluate", "--config", config, "-o"]
    said = tmp_path / "said"

    # Sums are rounded by the number of threads, so all runs have one.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    once = without_seconds(run(values, tmp_path / "once"))
    torch.set_num_threads(threads)
    killed = tmp_path / "killed"
    one = Started(*words, killed, said=said)
    rows = killed / "unfinished" / "rows-0.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (rows.exists() and rows.stat().st_size > 0):
        assert one.processes[0].is_alive(), one.said
        time.sleep(0.005)
    one.kill()
    if not (killed / "rows.jsonl").exists():  # it was not too quick for the signal
        assert Started(*words, killed, processes=2, said=said).wait() == [0, 0]
    assert without_seconds(read_results(killed)) == once
    both = tmp_path / "both"
    ranks: set[str] = set()
    two = Started(*words, both, processes=2, said=said)
    while any(process.is_alive() for process in two.processes):
        # Each process has a file of its own until all are done.
        ranks |= {file.name for file in (both / "unfinished").glob("rows-*.jsonl")}
        time.sleep(0.005)
    assert two.wait() == [0, 0], two.said
    assert ranks == {"rows-0.jsonl", "rows-1.jsonl"}
    assert without_seconds(read_results(both)) == once


def test_a_ledger_forgets_half_a_line_and_refuses_a_damaged_one(tmp_path: Path) -> None:
    ledger = Journal(tmp_path, 0)
    ledger.append([toy_record(repeat=0), toy_record(repeat=1)])
    with ledger.file.open("a") as file:
        file.write('{"scheme": "dif')
    assert len(ledger.read()) == 2
    again = Journal(tmp_path, 0)
    again.append([toy_record(repeat=2)])
    Journal(tmp_path, 1).append([toy_record(repeat=3), toy_record(repeat=2)])
    assert sorted(row.repeat for row in again.read().values()) == [0, 1, 2, 3]
    ledger.file.write_text("{}\n" + ledger.file.read_text())
    with pytest.raises(ResultsError, match=r"line 1: scheme: Field required"):
        ledger.read()


def test_other_set_ups_are_refused_with_what_differs(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    values = settings(images, rates=["1/128"], snrs_db=[1.0], repeats=1)
    run(values, folder)
    before = (folder / "rows.jsonl").read_bytes()
    for changes, told in (
        ({"seed": 1}, "sweep.seed is 1, it was 0"),
        ({"snrs_db": [2.0]}, r"sweep.snrs_db is \[2.0\], it was \[1.0\]"),
        ({"images": [str(images / "a.png")]}, "images differ: b, c"),
        ({"schemes": [{"kind": "diffjscc"}]}, "weights.diffjscc is 'compact@"),
    ):
        with pytest.raises(ResultsError, match=told):
            run(values | changes, folder)
    setup = read_setup(Layout(folder))
    assert setup is not None
    write_setup(Layout(folder), replace(setup, versions="python 2.7"))
    with pytest.raises(ResultsError, match=r"it was 'python 2\.7'"):
        run(values, folder)
    (folder / "setup.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ResultsError, match=r"format 99, this version .* format 2"):
        run(values, folder)
    assert (folder / "rows.jsonl").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ResultsError, match="holds something, but no results"):
        run(values, tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rates": ["1/7"]}, "deepjscc: rate 1/7 is not one of 1/128"),
        ({"rates": ["a lot"]}, "rate 'a lot' is not a number"),
        ({"snrs_db": [1.0, 1.0]}, "snrs_db holds 1.0 more than once"),
        ({"snrs_db": [float("nan")]}, "snrs_db.0 = nan"),
        ({"repeats": 0}, "repeats = 0"),
        ({"samples": 1}, "at least 2"),
        ({"crop": 65}, r"a.png is 96x64; no square of 65"),
        ({"schemes": []}, r"schemes = \[\]: .*at least 1"),
        (
            {"schemes": [{"kind": "jpeg"}]},
            r"schemes\.0\.kind = 'jpeg': .*'ddnm', .* or 'custom'$",
        ),
        ({"schemes": [{"kind": "deepjscc", "wieghts": "x"}]}, "did you mean 'weights'"),
        ({"schemes": [{"kind": "deepjscc"}] * 2}, "deepjscc more than once; give each a label"),
        (
            {"schemes": [{"kind": "deepjscc", "refiner": {"num_inference_steps": 3}}]},
            "--steps: no effect on deepjscc",
        ),
        ({"schemes": [{"kind": "deepjscc", "weights": "compcat"}]}, "compcat"),
        ({"schemes": [{"kind": "adv"}]}, "adv needs weights of its own, .* `diffjscc train adv"),
        (
            {"schemes": [{"kind": "adv", "weights": "x", "refiner": {"num_inference_steps": 3}}]},
            "--steps: no effect on adv",
        ),
        (
            {"schemes": [{"kind": "ddnm", "refiner": {"latent_guidance_scale": 1.0}}]},
            "--latent-guidance-scale: no effect on ddnm",
        ),
        ({"schemes": [{"kind": "ddnm"}], "rates": ["1/32"]}, "ddnm: rate 1/32 is not one of 1/512"),
        (
            {"channels": [{"name": "awgn", "transmitter_csi": True}]},
            "for fading channels, not for awgn",
        ),
        ({"images": ["/nonexistent"]}, "/nonexistent"),
        ({"image": 1}, "unknown key 'image'; did you mean 'images'"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_bad_settings(changes: dict[str, Any], told: str, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        run(settings(images) | changes, tmp_path / "results")
    assert not (tmp_path / "results" / "rows.jsonl").exists()


def test_units_hold_images_of_one_size_and_every_transmission_once() -> None:
    sizes = [(768, 512)] * 5 + [(512, 768)] * 2 + [(4000, 3000)]
    sent = [ImageInfo(f"{i}", "", *size) for i, size in enumerate(sizes)]
    for repeats in (1, 2, 5):
        for megapixels in (0.1, 1.0, 2.0, 50.0):
            values = settings(Path("x"), repeats=repeats, megapixels=megapixels)
            units = make_units(check(SweepConfig, values, "test"), sent)
            done = [(unit.point.index, *one) for unit in units for one in unit.transmissions]
            assert len(done) == len(set(done)) == 4 * 8 * repeats
            # All of an image by one scheme in a row, for what metrics keep of it.
            order = [unit.images[0] for unit in units]
            assert order == sorted(order)
            for unit in units:
                (pixels,) = {sizes[i][0] * sizes[i][1] for i in unit.images}
                assert unit.at_once * pixels <= megapixels * 1e6 or unit.at_once == 1
                assert len(unit.transmissions) <= max(unit.at_once, repeats)
    assert max(len(unit.images) for unit in units) == 5


def test_ddnm_spends_as_many_channel_uses(images: Path, tmp_path: Path) -> None:
    schemes = [{"kind": "deepjscc"}, {"kind": "ddnm", "refiner": {"num_inference_steps": 3}}]
    values = settings(images / "a.png", schemes=schemes, rates=["1/128"], repeats=1)
    results = run(values, tmp_path / "results")
    alone, ddnm = (
        [row for row in results.records if row.scheme == name] for name in ("deepjscc", "ddnm")
    )
    assert [row.channel_uses for row in ddnm] == [row.channel_uses for row in alone]
    assert {(row.sampler, row.num_inference_steps) for row in ddnm} == {("ddpm", 3)}
    assert all(row.initial_metrics is not None and row.metrics["psnr"] > 10 for row in ddnm)


def test_an_adversarial_codec_is_a_codec_alone_with_weights_of_its_own(
    images: Path, tmp_path: Path
) -> None:
    other = DiffJSCC.from_pretrained("compact", refiner=None, device="cpu")
    for parameter in other.codec.decoder.parameters():
        parameter.data.mul_(0.9)
    other.save_pretrained(tmp_path / "adv")
    adv = {"kind": "adv", "weights": str(tmp_path / "adv")}
    as_codec = {"kind": "deepjscc", "weights": str(tmp_path / "adv"), "label": "same"}
    values = settings(images, schemes=[{"kind": "deepjscc"}, adv, as_codec])
    results = run(values, tmp_path / "results")
    psnrs = {
        name: [row.metrics["psnr"] for row in results.records if row.scheme == name]
        for name in ("deepjscc", "adv", "same")
    }
    assert psnrs["adv"] == psnrs["same"] != psnrs["deepjscc"]
    assert {row.sampler for row in results.records} == {None}
    assert [shown.initial for shown in results.kept] == [None] * len(results.kept)


def test_what_is_received_at_once_changes_nothing_but_rounding(
    images: Path, tmp_path: Path
) -> None:
    schemes = [{"kind": "deepjscc"}, {"kind": "diffjscc", "refiner": {"num_inference_steps": 2}}]
    values = settings(images, schemes=schemes, rates=["1/128"], channels=[{"name": "rayleigh"}])
    alone = run(values | {"megapixels": 0.001}, tmp_path / "alone")
    together = run(values | {"megapixels": 1.0}, tmp_path / "together")
    for one, other in zip(alone.records, together.records, strict=True):
        assert one.transmission == other.transmission
        assert one.snr_db == other.snr_db
        assert one.metrics["psnr"] == pytest.approx(other.metrics["psnr"], abs=10 * ROUNDING_DB)


def test_equal_images_are_measured_once() -> None:
    sizes = []

    def counted(images: Tensor, references: Tensor) -> Tensor:
        sizes.append(len(images))
        return psnr(images, references)

    evaluator, _ = MetricEvaluator.load([counted])
    one, other, sent = torch.rand(3, 3, 20, 30)
    images, references = torch.stack([one, one, other, one]), torch.stack([sent] * 4)
    levels = [metrics["counted"] for metrics in evaluator(images, references)]
    assert sizes == [3]
    assert levels == psnr(images, references).tolist()
    references[1] = other
    assert len({metrics["counted"] for metrics in evaluator(images, references)}) == 3
    assert sizes == [3, 4]


def test_equal_images_have_their_features_taken_once(tmp_path: Path) -> None:
    looks = []

    class RunningMean(torch.nn.Module):
        name = "means"

        def of_image(self, image: Tensor, side: int) -> Tensor:
            found = patches(image, side)
            looks.append(len(found))
            return found.mean((2, 3))

    config = SweepConfig(images=("a",), schemes=(SchemeConfig(kind="deepjscc"),))
    (planned,) = make_points(config)
    point = planned.point
    distances = SweepFeatures([RunningMean()], tmp_path, 0, torch.device("cpu"))
    one, other = torch.rand(2, 3, 256, 384)
    for repeat, final in enumerate((one, one, other, one)):
        distances.add(point, "a", repeat, final, one)
    assert looks == [2, 2, 2, 2]  # the original and three of the four
    assert FeatureFolder(tmp_path / "means" / point_name(point)).count == 8


def test_a_crop_is_the_middle(images: Path, tmp_path: Path) -> None:
    values = settings(images / "a.png", crop=32, rates=["1/128"], snrs_db=[1.0], repeats=1)
    results = run(values, tmp_path / "results")
    kept = load_image(results.folder / results.kept[0].original)
    assert torch.equal(kept, load_image(images / "a.png")[:, 16:48, 32:64])


def test_the_documented_settings_are_settings() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    block = page.partition("```yaml\n")[2].partition("```")[0]
    config = check(SweepConfig, yaml.safe_load(block), "docs/evaluation.md")
    assert [scheme.name for scheme in config.schemes][2] == "diffjscc, 50 steps"
    assert config.schemes[2].refiner.sampler == "ddpm"

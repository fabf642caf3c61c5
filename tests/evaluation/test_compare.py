"""Two folders of results: what is worse is found, what is noise is not."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

from diffjscc.choices import DEFAULT_METRICS
from diffjscc.cli import app
from diffjscc.evaluation.compare import Difference, compare, default_tolerances, remarks
from diffjscc.evaluation.lines import write_lines
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.results import Results, read_results
from diffjscc.evaluation.statistics import quantities
from diffjscc.metrics.catalogue import METRICS
from toy_results import toy_record, toy_records, toy_results, with_metrics

PLANTED = ("diffjscc", "awgn", "1/64", 4.0)


def results(folder: Path, rows: Sequence[Record] | None = None) -> Results:
    return read_results(toy_results(folder, rows))


def changed(
    rows: Sequence[Record], by: Callable[[Record], float], figure: str = "psnr"
) -> list[Record]:
    quantity = quantities(METRICS[name].info for name in DEFAULT_METRICS)[figure]
    having = [(row, quantity.of(row)) for row in rows]
    moved = [(row, value + by(row)) for row, value in having if value is not None]
    if figure == "seconds":
        return [replace(row, seconds=value) for row, value in moved]
    rest = [row for row, value in having if value is None]
    return [with_metrics(row, **{figure: value}) for row, value in moved] + rest


def planted(change: float, figure: str = "psnr") -> list[Record]:
    """One cell differs by about `change`, not equally for every image."""
    rng = np.random.default_rng(0)

    def by(row: Record) -> float:
        return change * float(rng.uniform(0.9, 1.1)) if row.point == PLANTED else 0.0

    return changed(toy_records(), by, figure)


def outcomes(found: Sequence[Difference], outcome: str) -> list[tuple[object, ...]]:
    return [
        (one.scheme, one.channel, one.nominal_rate, one.nominal_snr_db, one.quantity)
        for one in found
        if one.outcome == outcome
    ]


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_same_results_are_the_same(tmp_path: Path) -> None:
    found = compare(results(tmp_path / "a"), results(tmp_path / "b"))
    assert {one.outcome for one in found} == {"same"}
    # Six cells of each scheme, four figures and a distance; diffjscc has four initial ones more.
    assert len(found) == 6 * 5 + 6 * 9
    assert remarks(results(tmp_path / "a"), results(tmp_path / "b")) == []


@pytest.mark.parametrize(
    ("figure", "change"),
    [("psnr", -0.3), ("ms_ssim", -0.01), ("lpips", 0.02), ("niqe", 0.3), ("lpips_initial", 0.02)],
)
def test_a_planted_regression_is_found_and_nothing_else(
    figure: str, change: float, tmp_path: Path
) -> None:
    before = results(tmp_path / "a")
    found = compare(before, results(tmp_path / "worse", planted(change, figure)))
    assert outcomes(found, "worse") == [(*PLANTED, figure)]
    assert outcomes(found, "better") == []
    found = compare(before, results(tmp_path / "better", planted(-change, figure)))
    assert outcomes(found, "better") == [(*PLANTED, figure)]
    assert outcomes(found, "worse") == []


def test_more_outages_are_a_regression(tmp_path: Path) -> None:
    def link(lost: int) -> list[Record]:
        rows = [toy_record(image=f"{n}", repeat=repeat) for n in range(4) for repeat in range(50)]
        return [replace(row, outage=row.repeat < lost) for row in rows]

    before = results(tmp_path / "a", link(1))
    found = compare(before, results(tmp_path / "b", link(2)), {"outage": 0.005})
    (one,) = found
    assert (one.before, one.after, one.outcome) == (0.02, 0.04, "worse")
    assert outcomes(compare(before, results(tmp_path / "c", link(1))), "worse") == []
    told = run("compare", tmp_path / "a", tmp_path / "b")
    assert told.exit_code == 1
    assert "outage rate" in told.output


def test_noise_is_no_regression(tmp_path: Path) -> None:
    """Changes of 0.5 dB either way, and systematic ones below the tolerance."""
    rng = np.random.default_rng(1)
    noisy = changed(toy_records(), lambda row: float(rng.normal(0, 0.5)))
    small = changed(toy_records(), lambda row: -0.04)
    before = results(tmp_path / "a")
    assert outcomes(compare(before, results(tmp_path / "b", noisy)), "worse") == []
    assert outcomes(compare(before, results(tmp_path / "c", small)), "worse") == []
    strict = compare(before, results(tmp_path / "c", small), {"psnr": 0.03})
    assert len(outcomes(strict, "worse")) == 12
    assert {one.quantity for one in strict} == {"psnr"}


def test_pairs_cancel_what_images_differ_by(tmp_path: Path) -> None:
    """Images differ by 3 dB, the change is 0.2 dB: only pairs can tell."""
    rng = np.random.default_rng(2)
    rows = [
        toy_record(image=f"kodim{n:02}", repeat=repeat, psnr=float(level + rng.normal(0, 0.5)))
        for n, level in enumerate(rng.normal(25, 3, 24))
        for repeat in range(2)
    ]
    after = changed(rows, lambda row: -0.2 + float(rng.normal(0, 0.05)))
    found = compare(results(tmp_path / "a", rows), results(tmp_path / "b", after))
    (one,) = [one for one in found if one.quantity == "psnr"]
    changes = np.array(
        [b.metrics["psnr"] - a.metrics["psnr"] for a, b in zip(rows, after, strict=True)]
    )
    means = changes.reshape(24, 2).mean(axis=1)
    low, high = stats.t.interval(0.95, 23, means.mean(), stats.sem(means))
    assert (one.change.low, one.change.high) == pytest.approx((low, high))
    assert one.after - one.before == pytest.approx(one.change.mean)
    assert one.outcome == "worse"


def test_one_image_is_judged_by_its_mean(tmp_path: Path) -> None:
    before = results(tmp_path / "a", [toy_record(psnr=20)])
    for psnr, outcome in ((19.94, "worse"), (19.96, "same"), (20.06, "better")):
        found = compare(
            before, results(tmp_path / outcome, [toy_record(psnr=psnr)]), {"psnr": 0.05}
        )
        assert [(one.outcome, one.change.half_width) for one in found] == [(outcome, None)]


@pytest.mark.parametrize(("factor", "outcome"), [(1.03, "worse"), (1.01, "same"), (0.9, "better")])
def test_distances_are_judged_by_their_ratio(factor: float, outcome: str, tmp_path: Path) -> None:
    before = results(tmp_path / "a")
    moved = tuple(replace(one, frechet=one.frechet * factor) for one in before.distances)
    found = compare(before, replace(before, distances=moved))
    assert {one.outcome for one in found if one.quantity == "frechet"} == {outcome}
    assert {one.outcome for one in found if one.quantity != "frechet"} == {"same"}


def test_seconds_only_if_asked_for(tmp_path: Path) -> None:
    before = results(tmp_path / "a")
    slow = results(tmp_path / "b", changed(toy_records(), lambda row: 1.0, "seconds"))
    assert outcomes(compare(before, slow), "worse") == []
    assert len(outcomes(compare(before, slow, {"seconds": 0.5}), "worse")) == 12


def test_what_only_one_has_is_said(tmp_path: Path) -> None:
    rows = [row for row in toy_records() if (row.scheme, row.nominal_rate) != ("deepjscc", "1/64")]
    rows = [row for row in rows if row.nominal_snr_db != 7 or row.repeat == 0]
    rows = [with_metrics(row, lpips=None) if row.nominal_snr_db == 4 else row for row in rows]
    rows = [
        replace(row, channel_uses=99) if row.point[2:] == ("1/64", 1.0) else row for row in rows
    ]
    before, after = results(tmp_path / "a"), results(tmp_path / "b", rows)
    told = remarks(before, after)
    a, b = tmp_path / "a", tmp_path / "b"
    assert f'only {a} has "deepjscc" over awgn at 1/64 and 4 dB' in told
    assert f'only {a} has 3 transmissions of "diffjscc" over awgn at 1/64 and 7 dB' in told
    assert f'only {a} has LPIPS of "diffjscc" over awgn at 1/64 and 4 dB' in told
    uses = f"takes 24 channel uses a transmission in {a}, 99 in {b}"
    assert f'"diffjscc" over awgn at 1/64 and 1 dB {uses}' in told
    # A distance between other images is another distance.
    assert any(text.startswith("Fréchet distance") and "1/64 and 7 dB" in text for text in told)
    found = compare(before, after)
    assert not [one for one in found if (one.nominal_snr_db, one.quantity) == (7.0, "frechet")]
    assert len(told) == len(remarks(after, before))


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    before = results(tmp_path / "a")
    for name, change, words in (
        ("b", {"seed": 1}, "the seed of kodim01"),
        ("c", {"image_hash": "ffff"}, "the pixels of kodim01"),
        ("d", {"scheme": "other"}, "no transmission in common"),
    ):
        after = results(tmp_path / name, [replace(row, **change) for row in toy_records()])
        with pytest.raises(ValueError, match=words):
            compare(before, after)
    with pytest.raises(ValueError, match="did you mean 'lpips'"):
        compare(before, before, {"lpip": 1})
    with pytest.raises(ValueError, match="at least 0"):
        compare(before, before, {"psnr": -1})


def test_exit_codes_and_json(tmp_path: Path) -> None:
    before = toy_results(tmp_path / "a")
    worse = toy_results(tmp_path / "b", planted(-0.3))
    written = tmp_path / "differences.json"
    same = run("compare", before, before)
    assert same.exit_code == 0, same.output
    assert "0 worse" in same.output
    found = run("compare", before, worse, "--json", written)
    assert found.exit_code == 1
    assert "1 worse" in found.output
    assert "PSNR" in found.output
    values = json.loads(written.read_text())
    (one,) = [one for one in values["differences"] if one["outcome"] == "worse"]
    assert (one["scheme"], one["nominal_rate"], one["nominal_snr_db"]) == ("diffjscc", "1/64", 4.0)
    assert one["change"]["mean"] == pytest.approx(-0.3, abs=0.03)
    assert run("compare", worse, before).exit_code == 0
    assert run("compare", before, worse, "--tolerance", "psnr=0.5").exit_code == 0


@pytest.mark.parametrize(
    ("option", "words"),
    [("psnr", "write psnr=0.05"), ("psnr=x", "x is no number"), ("psn=1", "did you mean 'psnr'")],
)
def test_bad_tolerances(option: str, words: str, tmp_path: Path) -> None:
    folder = toy_results(tmp_path / "a")
    result = run("compare", folder, folder, "--tolerance", option)
    assert result.exit_code == 2
    assert words in result.output


def test_folders_that_cannot_be_compared_are_told_from_worse_ones(tmp_path: Path) -> None:
    before = toy_results(tmp_path / "a")
    assert run("compare", before, tmp_path / "nothing").exit_code == 2
    other = toy_results(tmp_path / "b", [replace(row, seed=7) for row in toy_records()])
    result = run("compare", before, other)
    assert result.exit_code == 2
    assert "seed" in result.output
    unfinished = toy_results(tmp_path / "c")
    (unfinished / "rows.jsonl").unlink()
    assert "not finished" in run("compare", before, unfinished).output


def test_other_weights_are_said_and_compared(tmp_path: Path) -> None:
    before = toy_results(tmp_path / "a")
    after = toy_results(tmp_path / "b")
    rows = [replace(row, weights="compact@ffffffffffff") for row in toy_records()]
    write_lines(after / "rows.jsonl", rows)
    setup = json.loads((after / "setup.json").read_text())
    setup["weights"]["diffjscc"] = "compact@ffffffffffff"
    (after / "setup.json").write_text(json.dumps(setup))
    result = run("compare", before, after)
    assert result.exit_code == 0
    assert "weights.diffjscc is 'compact@ffffffffffff'" in " ".join(result.output.split())


def test_defaults_cover_all_metrics_outages_and_distances(tmp_path: Path) -> None:
    limits = default_tolerances([results(tmp_path / "a")])
    assert limits["psnr"] == limits["psnr_initial"] == 0.05
    assert limits["outage"] == 0.005
    assert len(limits) == 2 * len(DEFAULT_METRICS) + 2

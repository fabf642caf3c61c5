"""Means and intervals: worked out by hand, by scipy, and by how often they hold the truth."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from diffjscc.evaluation.lines import write_lines
from diffjscc.evaluation.records import PointDistances
from diffjscc.evaluation.results import Results, read_results
from diffjscc.evaluation.statistics import Estimate, estimate, summarise
from diffjscc.metrics.catalogue import frechet_info, kernel_info
from toy_results import toy_record, toy_records, toy_results


def results(folder: Path, *rows: object) -> Results:
    return read_results(toy_results(folder, list(rows) or None))  # type: ignore[arg-type]


def test_two_images_by_hand() -> None:
    # Means of the images are 2 and 6: mean 4, s = 2.828, s/√2 = 2, t(0.975, 1) = 12.706.
    found = estimate([("a", 1.0), ("a", 3.0), ("b", 6.0), ("b", 6.0)])
    assert (found.mean, found.images, found.transmissions) == (4.0, 2, 4)
    assert found.half_width == pytest.approx(25.412, abs=1e-3)
    assert (found.low, found.high) == pytest.approx((4 - 25.412, 4 + 25.412), abs=1e-3)


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(25, 3, 24)
    found = estimate((f"kodim{i}", value) for i, value in enumerate(values.tolist()))
    low, high = stats.t.interval(0.95, 23, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_every_image_weighs_the_same() -> None:
    assert estimate([("a", 0.0), ("a", 0.0), ("a", 0.0), ("b", 1.0)]).mean == 0.5


def test_one_image_has_no_interval() -> None:
    found = estimate([("a", 1.0), ("a", 2.0)])
    assert found == Estimate(1.5, None, 1, 2)
    assert found.low == found.high == 1.5


def test_of_nothing() -> None:
    with pytest.raises(ValueError, match="empty sequence"):
        estimate([])


def test_more_draws_of_the_same_images_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    levels = rng.normal(25, 3, 8)

    def half_width(draws: int) -> float:
        drawn = [
            (str(i), level + rng.normal(0, 0.1))
            for i, level in enumerate(levels)
            for _ in range(draws)
        ]
        width = estimate(drawn).half_width
        assert width is not None
        return width

    assert half_width(200) == pytest.approx(half_width(1), rel=0.1)


def test_intervals_hold_the_truth_95_times_in_100() -> None:
    """Images differ by 3 dB, draws by 1 dB; five draws each, as in the paper."""
    rng = np.random.default_rng(2)
    trials, images, draws = 2000, 6, 5
    held = 0
    for _ in range(trials):
        levels = 20 + rng.normal(0, 3, (images, 1)) + rng.normal(0, 1, (images, draws))
        found = estimate((str(i), float(value)) for (i, _), value in np.ndenumerate(levels))
        held += found.low <= 20 <= found.high
    # Four standard deviations of a binomial count.
    assert held / trials == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / trials))


def test_summaries_of_a_folder(tmp_path: Path) -> None:
    found = summarise([results(tmp_path / "a")])
    assert [one.point for one in found] == list(dict.fromkeys(row.point for row in toy_records()))
    one = next(one for one in found if one.point == ("diffjscc", "awgn", "1/64", 4.0))
    # Images' means are 21.55, 21.65 and 21.75 dB.
    assert one.estimates["psnr"].mean == pytest.approx(21.65)
    assert one.estimates["psnr"].half_width == pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-5)
    assert one.estimates["psnr_initial"].mean == pytest.approx(22.15)
    assert one.estimates["psnr"].transmissions == 6
    assert (one.sampler, one.num_inference_steps) == ("ddpm", 16)
    assert one.rate == 1 / 64
    assert one.distances["squeezenet"].frechet == 30
    alone = next(one for one in found if one.scheme == "deepjscc")
    assert alone.num_inference_steps is None
    assert "psnr_initial" not in alone.estimates


def test_a_figure_that_some_rows_lack(tmp_path: Path) -> None:
    rows = [toy_record(image="a", lpips=None), toy_record(image="b", lpips=0.3)]
    (one,) = summarise([results(tmp_path / "a", *rows)])
    assert one.estimates["lpips"] == Estimate(0.3, None, 1, 1)
    assert one.estimates["psnr"].images == 2


def test_folders_are_pooled_and_a_transmission_counts_once(tmp_path: Path) -> None:
    first = results(tmp_path / "a", toy_record(image="a", psnr=10), toy_record(image="b", psnr=20))
    second = results(tmp_path / "b", toy_record(image="b", psnr=20), toy_record(image="c", psnr=30))
    cell = replace(second.distances[0], patches=99, frechet=7.0)
    (one,) = summarise([first, replace(second, distances=(cell,))])
    assert (one.estimates["psnr"].mean, one.estimates["psnr"].transmissions) == (20, 3)
    assert one.distances["squeezenet"].frechet == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [({"weights": "other@1"}, "weights"), ({"num_inference_steps": 4}, "num_inference_steps 16")],
)
def test_a_cell_means_the_same_in_every_folder(
    change: dict[str, object], told: str, tmp_path: Path
) -> None:
    first = results(tmp_path / "a", toy_record())
    second = results(tmp_path / "b", replace(toy_record(repeat=1), **change))
    with pytest.raises(ValueError, match=told) as error:
        summarise([first, second])
    assert str(tmp_path / "a") in str(error.value)
    assert str(tmp_path / "b") in str(error.value)


def test_only_inception_gives_fid_and_kid(tmp_path: Path) -> None:
    assert (frechet_info("inception").heading, kernel_info("inception").heading) == ("FID", "KID")
    assert frechet_info("squeezenet").heading == "Fréchet distance (SqueezeNet)"
    assert kernel_info("squeezenet").heading == "kernel distance (SqueezeNet)"
    folder = toy_results(tmp_path / "a", [toy_record()])
    key = toy_record().point
    both = [
        PointDistances(*key, "squeezenet", 30, 1.0, 0.1, 0.0),
        PointDistances(*key, "inception", 30, 2.0, 0.2, 0.0),
    ]
    write_lines(folder / "distances.jsonl", both)
    (one,) = summarise([read_results(folder)])
    assert {name: cell.frechet for name, cell in one.distances.items()} == {
        "squeezenet": 1.0,
        "inception": 2.0,
    }

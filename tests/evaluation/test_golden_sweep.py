"""A small sweep against its results in the repository, which any change of a figure would show.

After a change that is meant to change figures, such as new weights, make them anew as sweep.yaml
says, look at what `diffjscc compare` says of it, and commit both.
"""

from pathlib import Path

import matplotlib as mpl
import pytest

from diffjscc.configuration import check, read_yaml
from diffjscc.evaluation.compare import compare
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.results import Results, read_results
from diffjscc.evaluation.sweep import Sweep
from diffjscc.metrics.evaluator import Metrics
from locations import GOLDEN

PHOTO = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"

# What other processors may round otherwise, and what sampling makes of that.
TOLERANCE = {"psnr": 0.3, "ms_ssim": 0.01, "lpips": 0.03, "niqe": 0.5}
CODEC_TOLERANCE = {"psnr": 0.02, "ms_ssim": 0.001, "lpips": 0.005, "niqe": 0.1}
DISTANCE_TOLERANCE = 0.1  # relative
EXACT = {
    "image_hash",
    "channel_uses",
    "uses_by_kind",
    "rate",
    "seed",
    "weights",
    "sampler",
    "num_inference_steps",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """The golden results and new ones."""
    values = read_yaml(GOLDEN / "sweep.yaml") | {"images": [str(PHOTO)]}
    folder = tmp_path_factory.mktemp("golden") / "sweep"
    new = Sweep(check(SweepConfig, values, "sweep.yaml"), folder).prepare().run(lambda _: None)
    return read_results(GOLDEN / "sweep"), new


def assert_close(now: Metrics, golden: Metrics, tolerance: dict[str, float]) -> None:
    assert now.keys() == golden.keys() == tolerance.keys()
    for name, allowed in tolerance.items():
        assert now[name] == pytest.approx(golden[name], abs=allowed), name


def test_rows_are_the_golden_ones(results: tuple[Results, Results]) -> None:
    golden, new = results
    assert len(golden.records) == len(new.records) == 2 * 2 * 2 * 2
    for before, now in zip(golden.records, new.records, strict=True):
        assert (before.point, before.repeat) == (now.point, now.repeat)
        for name in EXACT:
            assert getattr(now, name) == getattr(before, name)
        assert now.snr_db == pytest.approx(before.snr_db, abs=1e-5)
        allowed = CODEC_TOLERANCE if now.initial_metrics is None else TOLERANCE
        assert_close(now.metrics, before.metrics, allowed)
        assert (now.initial_metrics is None) == (before.initial_metrics is None)
        if now.initial_metrics is not None:
            assert_close(now.initial_metrics, before.initial_metrics or {}, CODEC_TOLERANCE)


def test_distances_are_the_golden_ones(results: tuple[Results, Results]) -> None:
    golden, new = results
    assert len(golden.distances) == 8
    for before, now in zip(golden.distances, new.distances, strict=True):
        assert (now.point, now.features) == (before.point, before.features)
        assert now.patches == before.patches
        assert now.frechet == pytest.approx(before.frechet, rel=DISTANCE_TOLERANCE)


def test_compare_finds_no_regression(results: tuple[Results, Results]) -> None:
    assert not [difference for difference in compare(*results) if difference.outcome == "worse"]

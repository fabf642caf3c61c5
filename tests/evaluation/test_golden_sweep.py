"""A small sweep against its results in the repository, which any change of a figure would show.

After a change that is meant to change figures, such as new weights, make them anew as sweep.yaml
says, look at what `diffjscc compare` says of it, and commit both.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import matplotlib as mpl
import pytest
from accelerate.state import AcceleratorState

from diffjscc.configuration import check, read_yaml
from diffjscc.evaluation.compare import compare
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.results import Results, read_results
from diffjscc.evaluation.sweep import Sweep
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
    "steps",
}


@pytest.fixture(scope="module")
def results(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Results, Results]]:
    """The golden results and new ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFJSCC_METRIC_WEIGHTS", str(shared / "data" / "metric-weights"))
        values = read_yaml(GOLDEN / "sweep.yaml") | {"images": [str(PHOTO)]}
        folder = tmp_path_factory.mktemp("golden") / "sweep"
        new = Sweep(check(SweepConfig, values, "sweep.yaml"), folder).run(lambda _: None)
        yield read_results(GOLDEN / "sweep"), new
    AcceleratorState._reset_state(reset_partial_state=True)


def test_rows_are_the_golden_ones(results: tuple[Results, Results]) -> None:
    golden, new = results
    assert len(golden.rows) == len(new.rows) == 2 * 2 * 2 * 2
    for before, now in zip(golden.rows, new.rows, strict=True):
        assert (before.cell, before.repeat) == (now.cell, now.repeat)
        for name in EXACT:
            assert getattr(now, name) == getattr(before, name)
        assert now.snr_db == pytest.approx(before.snr_db, abs=1e-5)
        for field in fields(Record):
            figure = field.name.removesuffix("_initial")
            if figure in TOLERANCE:
                plain = now.steps is None or field.name != figure
                allowed = (CODEC_TOLERANCE if plain else TOLERANCE)[figure]
                value, golden_value = getattr(now, field.name), getattr(before, field.name)
                assert value == pytest.approx(golden_value, abs=allowed), field.name


def test_distances_are_the_golden_ones(results: tuple[Results, Results]) -> None:
    golden, new = results
    assert len(golden.cells) == 8
    for before, now in zip(golden.cells, new.cells, strict=True):
        assert (now.key, now.features, now.patches) == (before.key, before.features, before.patches)
        assert now.frechet == pytest.approx(before.frechet, rel=DISTANCE_TOLERANCE)


def test_compare_finds_no_regression(results: tuple[Results, Results]) -> None:
    assert not [difference for difference in compare(*results) if difference.verdict == "worse"]

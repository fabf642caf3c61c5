"""`diffjscc evaluate` killed at any write: nothing is lost, and the next run ends as one would."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from diffjscc.evaluation.results import Results, read_results
from killed import needs_kill, run_killed
from small_scheme import SCHEME

MOMENTS = 10

RUN = """
from diffjscc.configuration import check
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.sweep import Sweep
SETTINGS = {
    "images": [place + "/images"],
    "schemes": [{"kind": "custom", "factory": "means_of_blocks:make"}],
    "rates": ["1/128"],
    "snrs_db": [1.0, 7.0],
    "metrics": ["psnr"],
    "features": ["squeezenet"],
    "shown": 1,
    "device": "cpu",
    "megapixels": 0.01,
}

def run(name):
    config = check(SweepConfig, SETTINGS, "test")
    Sweep(config, Path(place) / "results" / name).prepare().run(lambda _: None)
"""


def content(folder: Path) -> tuple[Results, list[dict[str, object]]]:
    results = read_results(folder)
    return results, [asdict(replace(record, seconds=0.0)) for record in results.records]


@needs_kill
def test_killed_at_any_write_a_sweep_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        coarse = Image.fromarray(rng.uniform(0, 255, (8, 12, 3)).astype(np.uint8))
        smooth = coarse.resize((384, 256), Image.Resampling.BICUBIC)
        smooth.save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "means_of_blocks.py").write_text(SCHEME)
    assert run_killed(tmp_path, RUN, MOMENTS) > 40
    whole, records = content(tmp_path / "results" / "whole")
    files = {path.name for path in whole.folder.iterdir()}
    assert len(records) == 4
    assert len(whole.distances) == 2
    for folder in (tmp_path / "results").iterdir():
        results, again = content(folder)
        assert again == records, folder.name
        assert results.distances == whole.distances, folder.name
        assert results.kept == whole.kept, folder.name
        assert {path.name for path in folder.iterdir()} == files, folder.name
        for kept in whole.kept:
            assert (folder / kept.final).read_bytes() == (whole.folder / kept.final).read_bytes()

"""The figures that README and docs publish are those of the rows in results/."""

import json
from pathlib import Path

import pytest

from diffjscc.evaluation.results import read_results
from diffjscc.evaluation.statistics import Summary, summarise
from diffjscc.models.pretrained import find_weights, weights_hash

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RATES = ("1/128", "1/64", "1/32", "1/16")
FOLDERS = sorted(path.parent for path in ROOT.glob("results/*/*/setup.json"))


def told(summary: Summary) -> str:
    """As the README's table has them."""
    psnr, ms_ssim, lpips, niqe = (
        summary.estimates[name].mean for name in ("psnr", "ms_ssim", "lpips", "niqe")
    )
    distance = summary.distances["squeezenet"].frechet
    return f"{psnr:.2f} | {ms_ssim:.3f} | {lpips:.3f} | {niqe:.1f} | {distance:.0f}"


def test_the_table_of_the_readme() -> None:
    fig3 = read_results(ROOT / "results" / "compact-kodak" / "fig3")
    at = {summary.cell: summary for summary in summarise([fig3])}
    for rate in RATES:
        for scheme, called in (("deepjscc", "codec alone"), ("diffjscc", "with receiver")):
            summary = at[scheme, "awgn", rate, 1.0]
            assert summary.estimates["psnr"].transmissions == 5 * 24
            assert f"| {rate} | {called} | {told(summary)} |" in README


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_results_are_of_the_bundled_weights(folder: Path) -> None:
    setup = json.loads((folder / "setup.json").read_text())
    bundled = find_weights("compact")
    whole = f"compact@{weights_hash(bundled)}"
    codec = f"compact@{weights_hash(bundled, ['codec'])}"
    known = {"deepjscc": codec, "diffjscc": whole}
    ours = {name: weights for name, weights in setup["weights"].items() if name in known}
    assert ours == {name: known[name] for name in ours}
    figures = folder / "figures"
    assert list(figures.glob("*.svg"))
    assert {path.stem for path in figures.glob("*.svg")} == {
        path.stem for path in figures.glob("*.png")
    }
    assert f"`{folder.parent.name}/{folder.name}`" in (ROOT / "results/README.md").read_text()

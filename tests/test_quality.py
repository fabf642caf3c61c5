"""Quality of the bundled weights on real pictures, against the golden figures."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

from diffjscc import AWGN, DiffJSCC
from diffjscc.data.pictures import find_pictures, load_picture, quantise
from diffjscc.evaluation.metrics import ms_ssim, psnr
from diffjscc.models.pretrained import find_weights, weights_hash
from diffjscc.transmission import picture_generator

GOLDEN = json.loads((Path(__file__).parent / "golden" / "compact-kodak.json").read_text())
RATES = ("1/128", "1/64", "1/32", "1/16")


def schemes() -> list[DiffJSCC]:
    return [DiffJSCC.from_pretrained("compact", rate, device="cpu") for rate in RATES]


def send(scheme: DiffJSCC, picture: torch.Tensor, snr_db: float) -> torch.Tensor:
    generator = picture_generator(0, picture[0], 0)
    with torch.no_grad():
        return quantise(scheme(picture, AWGN(snr_db), generator).image)


def test_golden_figures_are_of_the_bundled_weights() -> None:
    assert GOLDEN["weights"] == weights_hash(find_weights("compact"))
    assert GOLDEN["pictures"] == 24


def test_golden_psnr_rises_with_snr_and_rate() -> None:
    level = {(row["rate"], row["snr_db"]): row["psnr"] for row in GOLDEN["rows"]}
    snrs_db = sorted({snr_db for _, snr_db in level})
    assert (snrs_db[0], snrs_db[-1]) == (-5, 20)
    for rate in RATES:
        levels = [level[rate, snr_db] for snr_db in snrs_db]
        assert levels == sorted(levels)
    for snr_db in snrs_db:
        levels = [level[rate, snr_db] for rate in RATES]
        assert levels == sorted(levels)


@pytest.mark.parametrize("rate", RATES)
def test_kodak_at_1_db(rate: str, shared: Path) -> None:
    """All 24 pictures, as the golden file has them, to what rounding on another machine allows."""
    (golden,) = (r for r in GOLDEN["rows"] if (r["rate"], r["snr_db"]) == (rate, 1.0))
    scheme = DiffJSCC.from_pretrained("compact", rate, device="cpu")
    levels, similarities = [], []
    for path in find_pictures([shared / "data" / "kodak"]):
        picture = load_picture(path)[None]
        image = send(scheme, picture, 1.0)
        levels.append(psnr(image, picture).item())
        similarities.append(ms_ssim(image, picture).item())
    assert sum(levels) / 24 == pytest.approx(golden["psnr"], abs=0.02)
    assert sum(similarities) / 24 == pytest.approx(golden["ms_ssim"], abs=0.002)


def test_a_photograph_improves_with_snr_and_rate() -> None:
    path = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    picture = load_picture(path)[None]
    table = [
        [psnr(send(scheme, picture, snr_db), picture).item() for snr_db in (-5.0, 1.0, 7.0, 20.0)]
        for scheme in schemes()
    ]
    assert all(row == sorted(row) for row in table)
    assert all(list(column) == sorted(column) for column in zip(*table, strict=True))
    assert table[0][1] > 18

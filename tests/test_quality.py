"""Quality of the bundled weights on real images, against the golden figures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from diffjscc import AWGN, DiffJSCC
from diffjscc.data.images import load_image, quantise
from diffjscc.data.search import find_images
from diffjscc.evaluation.images import SourceImage
from diffjscc.metrics.fidelity import ms_ssim, psnr
from diffjscc.metrics.lpips import LPIPS
from diffjscc.pretrained.pretrained import open_weights, weights_hash
from locations import GOLDEN, PHOTOGRAPHS, PORTRAIT

KODAK = json.loads((GOLDEN / "compact-kodak.json").read_text())
RECEIVER_KODAK = json.loads((GOLDEN / "compact-receiver-kodak.json").read_text())
OTHERS = json.loads((GOLDEN / "compact-photographs.json").read_text())
RECEIVER_OTHERS = json.loads((GOLDEN / "compact-receiver-photographs.json").read_text())
RATES = ("1/128", "1/64", "1/32", "1/16")


def schemes() -> list[DiffJSCC]:
    return [DiffJSCC.from_pretrained("compact", rate, refiner=None, device="cpu") for rate in RATES]


def send(scheme: DiffJSCC, image: torch.Tensor, snr_db: float) -> torch.Tensor:
    generator = SourceImage("", image[0]).generator(0, 0)
    with torch.no_grad():
        return quantise(scheme(image, AWGN(snr_db), generator).image)


def test_golden_figures_are_of_the_bundled_weights() -> None:
    codec = weights_hash(open_weights("compact").folder, ["codec"])
    assert (KODAK["weights"], KODAK["images"]) == (codec, 24)
    assert (OTHERS["weights"], OTHERS["images"]) == (codec, len(list(PHOTOGRAPHS.glob("*.webp"))))


@pytest.mark.parametrize("golden", [KODAK, OTHERS], ids=["kodak", "photographs"])
def test_golden_psnr_rises_with_snr_and_rate(golden: dict[str, Any]) -> None:
    level = {(row["rate"], row["snr_db"]): row["psnr"] for row in golden["rows"]}
    snrs_db = sorted({snr_db for _, snr_db in level})
    assert (snrs_db[0], snrs_db[-1]) == (-5, 20)
    for rate in RATES:
        levels = [level[rate, snr_db] for snr_db in snrs_db]
        assert levels == sorted(levels)
    for snr_db in snrs_db:
        levels = [level[rate, snr_db] for rate in RATES]
        assert levels == sorted(levels)


def assert_codec_is_golden(folder: Path, golden: dict[str, Any]) -> None:
    """All images at 1 dB, as the golden file has them, to what other machines round otherwise."""
    originals = [load_image(path)[None] for path in find_images([folder])]
    assert len(originals) == golden["images"]
    for scheme in schemes():
        (row,) = (
            row for row in golden["rows"] if (row["rate"], row["snr_db"]) == (str(scheme.rate), 1.0)
        )
        images = [send(scheme, original, 1.0) for original in originals]
        for name, measure, allowed in (("psnr", psnr, 0.02), ("ms_ssim", ms_ssim, 0.002)):
            values = [measure(*pair).item() for pair in zip(images, originals, strict=True)]
            assert sum(values) / len(values) == pytest.approx(row[name], abs=allowed), name


def test_codec_on_photographs() -> None:
    assert_codec_is_golden(PHOTOGRAPHS, OTHERS)


def test_codec_on_kodak(kodak: Path) -> None:
    assert_codec_is_golden(kodak, KODAK)


def test_the_bundle_is_small_and_complete() -> None:
    folder = open_weights("compact").folder
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 36 * 10**6
    for golden in (RECEIVER_KODAK, RECEIVER_OTHERS):
        assert golden["weights"] == f"compact@{weights_hash(folder)}"


def test_golden_receiver_gains_where_the_link_is_poor() -> None:
    """What was measured on all 24 images; LPIPS was also a loss of the decoder's training."""
    for rate, gain, loss_db in (("1/128", 0.44, 1.1), ("1/16", 0.15, 1.3)):
        rows = [row for row in RECEIVER_KODAK["rows"] if row["rate"] == rate]
        assert len(rows) == 24
        keys = ("lpips", "lpips_initial", "psnr", "psnr_initial")
        mean = {key: sum(row[key] for row in rows) / 24 for key in keys}
        assert mean["lpips"] < (1 - gain) * mean["lpips_initial"]
        assert mean["psnr"] > mean["psnr_initial"] - loss_db


def assert_receiver_is_golden(folder: Path, golden: dict[str, Any], names: tuple[str, ...]) -> None:
    lpips = LPIPS.load("squeeze")
    scheme = DiffJSCC.from_pretrained("compact", "1/128", device="cpu")
    rows = {row["image"]: row for row in golden["rows"] if row["rate"] == "1/128"}
    for name in names:
        (path,) = folder.glob(f"{name}.*")
        original = load_image(path)[None]
        image = send(scheme, original, 1.0)
        # Sampling enlarges what other machines round otherwise.
        assert psnr(image, original).item() == pytest.approx(rows[name]["psnr"], abs=0.3)
        assert lpips(image, original).item() == pytest.approx(rows[name]["lpips"], abs=0.03)


def test_receiver_on_photographs() -> None:
    assert_receiver_is_golden(PHOTOGRAPHS, RECEIVER_OTHERS, ("chelsea", "coffee"))


def test_receiver_on_kodak(kodak: Path) -> None:
    assert_receiver_is_golden(kodak, RECEIVER_KODAK, ("kodim05", "kodim23"))


def test_a_photograph_improves_with_snr_and_rate() -> None:
    image = load_image(PORTRAIT)[None]
    table = [
        [psnr(send(scheme, image, snr_db), image).item() for snr_db in (-5.0, 1.0, 7.0, 20.0)]
        for scheme in schemes()
    ]
    assert all(row == sorted(row) for row in table)
    assert all(list(column) == sorted(column) for column in zip(*table, strict=True))
    assert table[0][1] > 18

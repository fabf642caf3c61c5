"""Evaluation from Python: any images, any channel, records that are a table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from torch import Tensor

from diffjscc import AWGN, ChannelState, DiffJSCC, Rayleigh, Received, Scheme, Symbols
from diffjscc.configuration import check
from diffjscc.data.images import quantise, save_image
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.evaluate import evaluate
from diffjscc.evaluation.statistics import summarise
from diffjscc.evaluation.sweep import Sweep
from diffjscc.report.figures import make_plots
from diffjscc.report.page import write_report
from diffjscc.symbols import Generators


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    own = DiffJSCC.from_pretrained("compact", "1/32", refiner=None, device="cpu")
    return Scheme(own.codec, "1/32", provenance="mine")


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Two smooth images, 8 bits."""
    coarse = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    return quantise(torch.nn.functional.interpolate(coarse, (64, 96), mode="bilinear"))


def values(records: Any) -> list[float | None]:
    return [record.metrics["psnr"] for record in records]


def test_images_of_every_kind_are_the_same(scheme: Scheme, pixels: Tensor, tmp_path: Path) -> None:
    levels = (pixels * 255).round().byte()
    arrays = levels.permute(0, 2, 3, 1).numpy()
    for number, image in enumerate(pixels):
        save_image(image, tmp_path / f"{number}.png")

    class Photographs(torch.utils.data.Dataset[Tensor]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Tensor:
            return pixels[index]

    kinds: list[Any] = [
        pixels,
        levels,
        list(pixels),
        arrays,
        [Image.fromarray(array) for array in arrays],
        (array for array in arrays.astype(np.float32) / 255),
        Photographs(),
        tmp_path,
        [tmp_path / "0.png", str(tmp_path / "1.png")],
    ]
    found = [evaluate(scheme, images, AWGN(4.0), repeats=2, metrics=["psnr"]) for images in kinds]
    assert all(values(one) == values(found[0]) for one in found)
    assert [one.image for one in found[0]] == ["image 0"] * 2 + ["image 1"] * 2
    assert [one.image for one in found[7]] == ["0"] * 2 + ["1"] * 2
    assert len(set(values(found[0]))) == 4


def test_a_record_holds_the_point_and_the_metrics(scheme: Scheme, pixels: Tensor) -> None:
    (record,) = evaluate(scheme, pixels[0], AWGN(4.0), metrics=["psnr"], name="codec")
    assert record.point == ("codec", "awgn", "1/32", 4.0)
    assert record.weights == "mine"
    assert record.channel_uses == 64 * 96 // 32
    assert record.initial_metrics is None


def test_several_snrs_are_a_table(scheme: Scheme, pixels: Tensor) -> None:
    records = evaluate(scheme, pixels, Rayleigh, snrs_db=(1, 7), metrics=["psnr"], repeats=3)
    assert len(records) == 2 * 2 * 3
    table = records[:2].as_dicts()
    assert [row["repeat"] for row in table] == [0, 1]
    assert table[0]["psnr"] == records[0].metrics["psnr"]
    assert table[0]["uses_image"] == records[0].channel_uses
    assert not any(isinstance(value, dict | list) for row in table for value in row.values())
    assert [record.nominal_snr_db for record in records] == [1.0] * 6 + [7.0] * 6
    assert len({record.snr_db for record in records}) == 12  # fades differ


def test_the_channel_and_the_snr_go_together(scheme: Scheme, pixels: Tensor) -> None:
    with pytest.raises(ValueError, match="function of the SNR; give snrs_db"):
        evaluate(scheme, pixels, AWGN, metrics=["psnr"])
    with pytest.raises(ValueError, match=r"snrs_db is 3\.0, but the channel has an SNR of its own"):
        evaluate(scheme, pixels, AWGN(1.0), snrs_db=3.0, metrics=["psnr"])
    with pytest.raises(ValueError, match="no images"):
        evaluate(scheme, [], AWGN(1.0), metrics=["psnr"])
    with pytest.raises(ValueError, match="repeats is 0"):
        evaluate(scheme, pixels, AWGN(1.0), repeats=0, metrics=["psnr"])


def test_a_sweep_measures_the_same_with_a_metric_of_ones_own(
    pixels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_metric.py").write_text(
        "def worst(images, references):\n"
        "    return (images - references).abs().amax(dim=(1, 2, 3))\n"
        "worst.label, worst.higher_is_better, worst.digits = 'largest error', False, 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    save_image(pixels[0], tmp_path / "a.png")
    config = {
        "images": [str(tmp_path / "a.png")],
        "schemes": [{"kind": "deepjscc"}],
        "rates": ["1/32"],
        "snrs_db": [4.0],
        "repeats": 2,
        "metrics": ["own_metric:worst"],
        "features": [],
        "device": "cpu",
    }
    sweep = Sweep(check(SweepConfig, config, "test"), tmp_path / "results")
    assert not sweep.folder.exists()
    results = sweep.prepare().run(lambda _: None)
    AcceleratorState._reset_state(reset_partial_state=True)
    scheme = DiffJSCC.from_pretrained("compact", "1/32", refiner=None, device="cpu")
    own = evaluate(
        scheme, tmp_path / "a.png", AWGN(4.0), repeats=2, metrics=config["metrics"], name="deepjscc"
    )
    assert [replace(one, seconds=0.0) for one in own] == [
        replace(one, seconds=0.0) for one in results.records
    ]
    (summary,) = summarise([results])
    assert summary.estimates.keys() == {"worst", "outage", "seconds"}
    (_, plot), *_ = make_plots([summary], None)
    assert plot.axes[0].get_xlabel() == "largest error"
    write_report([results], tmp_path / "report.html")
    assert "largest error" in (tmp_path / "report.html").read_text()


def test_a_metric_is_not_called_as_a_field_of_records(scheme: Scheme, pixels: Tensor) -> None:
    def rate(images: Tensor, references: Tensor) -> Tensor:
        return psnr_like(images, references)

    def psnr_like(images: Tensor, references: Tensor) -> Tensor:
        return (images - references).mean(dim=(1, 2, 3))

    with pytest.raises(ValueError, match="called rate, as a field of records"):
        evaluate(scheme, pixels, AWGN(1.0), metrics=[rate])


ENDS: dict[str, tuple[Exception, str]] = {
    "memory": (MemoryError(), "the memory of this machine is too small; use smaller"),
    "memory of a GPU": (torch.OutOfMemoryError(), "the memory of the GPU is too small; use"),
    "torch's memory": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 1 TB\nstack"),
        "the memory of this machine is too small; use smaller",
    ),
    "value": (ValueError("no such thing"), "no such thing"),
    "operator": (RuntimeError("shapes differ\nhere"), "RuntimeError: shapes differ"),
}


def failing(error: Exception) -> type[AWGN]:
    """A channel that ends with an error where some of the noise is positive."""

    class Failing(AWGN):
        def __call__(
            self, symbols: Symbols, generator: Generators = None, state: ChannelState | None = None
        ) -> Received:
            received = super().__call__(symbols, generator, state)
            if bool(((received.values - symbols.values)[:, 0].real > 0).any()):
                raise error
            return received

    return Failing


@pytest.mark.parametrize("kind", ENDS)
def test_a_transmission_that_fails_does_not_end_the_others(
    kind: str, scheme: Scheme, pixels: Tensor
) -> None:
    error, words = ENDS[kind]
    channel = failing(error)
    with pytest.warns(UserWarning, match="transmissions have no record, see Records.absent"):
        records = evaluate(scheme, pixels, channel, snrs_db=[1, 2], metrics=["psnr"], repeats=4)
    keys = [(one.point, one.image, one.repeat) for one in (*records, *records.absent)]
    assert len(set(keys)) == len(keys) == 2 * 2 * 4
    assert 2 < len(records) < 14
    assert all(one.failed and one.reason.startswith(words) for one in records.absent)
    assert {one.nominal_snr_db for one in records.absent} == {1.0, 2.0}
    sound = evaluate(scheme, pixels, AWGN, snrs_db=[1, 2], metrics=["psnr"], repeats=4)
    by_key = {(one.nominal_snr_db, one.image, one.repeat): one for one in sound}
    for one in records:
        level = by_key[one.nominal_snr_db, one.image, one.repeat].metrics["psnr"]
        assert one.metrics["psnr"] == pytest.approx(level, abs=1e-3)
    with pytest.warns(UserWarning, match='by "CompactJSCC" over failing at 1/32 and 3 dB'):
        assert evaluate(scheme, pixels, channel(3.0), metrics=["psnr"], repeats=4).absent


def test_where_everything_fails_the_first_error_is_raised(scheme: Scheme, pixels: Tensor) -> None:
    class Broken(AWGN):
        def __call__(self, symbols: Symbols, *more: object) -> Received:
            raise ZeroDivisionError(f"{len(symbols.values)} at once")

    with pytest.raises(ZeroDivisionError, match="1 at once") as found:
        evaluate(scheme, pixels, Broken(1.0), metrics=["psnr"], repeats=2)
    assert found.traceback[-1].name == "__call__"

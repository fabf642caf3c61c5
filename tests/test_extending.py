"""docs/extending.md: its examples run as they stand there."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import diffjscc
from diffjscc import AWGN, DiffJSCC, Factory, Scheme
from diffjscc.evaluation.results import read_results
from diffjscc.pretrained.storage import WeightsError
from locations import ROOT
from pages import Reader, blocks
from processes import Started

PAGE = ROOT / "docs" / "extending.md"
PARTS = [block for block in blocks(PAGE) if block.file == "my_parts.py"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A reader who did all that the page says."""
    reader = Reader(tmp_path_factory.mktemp("user"))
    reader.follow(PAGE)
    return reader


@pytest.fixture
def folder(reader: Reader) -> Path:
    """The reader's folder: their module, photographs, results."""
    return reader.folder


@pytest.fixture
def parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The user's module, imported."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    import my_parts  # noqa: PLC0415

    yield my_parts
    del sys.modules["my_parts"]


def test_what_the_commands_wrote(folder: Path) -> None:
    assert list((folder / "sent").glob("photo*.png"))
    both = read_results(folder / "results")
    assert {record.scheme for record in both.records} == {"deepjscc", "my_parts:make_scheme"}
    (own,) = read_results(folder / "edges").records
    assert set(own.metrics) == {"psnr", "edge_error"}
    (sharpened,) = read_results(folder / "sharpened").records
    assert sharpened.initial_metrics is not None


def test_every_part_is_short() -> None:
    assert len(PARTS) == 6
    for part in PARTS:
        assert len(part.text.strip().splitlines()) <= 30


def test_what_the_notebook_computed(reader: Reader) -> None:
    records = reader.names["records"]
    assert [round(record.snr_db) for record in records] == [1, 7]  # type: ignore[attr-defined]
    assert all("edge_error" in row for row in records.as_dicts())  # type: ignore[attr-defined]


def test_saved_parts_load_with_consent_alone(parts: object, tmp_path: Path) -> None:
    scheme = DiffJSCC(parts.BlockMeans(0.25), "1/128", parts.Sharpen())  # type: ignore[attr-defined]
    with pytest.raises(WeightsError, match=r"refiner of your own.*refiner_factory="):
        scheme.save_pretrained(tmp_path / "a")
    codec = Factory(factory="my_parts:BlockMeans")
    scheme.save_pretrained(
        tmp_path / "b", codec_factory=codec, refiner_factory=Factory(factory="my_parts:Sharpen")
    )
    with pytest.raises(WeightsError, match=r"names code: my_parts:BlockMeans.*trust_custom_code"):
        DiffJSCC.from_pretrained(tmp_path / "b", device="cpu")
    loaded = DiffJSCC.from_pretrained(tmp_path / "b", device="cpu", trust_custom_code=True)
    image = torch.rand(1, 3, 32, 48)
    results = [s(image, AWGN(10.0), torch.Generator().manual_seed(1)) for s in (scheme, loaded)]
    assert torch.equal(results[0].image, results[1].image)
    assert not torch.equal(results[0].image, results[0].initial)


class Broken:
    """A codec with a mistake of the caller's choice."""

    rates = (diffjscc.DiffJSCC.from_pretrained("compact", device="cpu", refiner=None).rate,)

    def __init__(self, values: torch.Tensor, image: torch.Tensor) -> None:
        self.values, self.image = values, image

    def encode(self, images, csi, rate):
        size = images.shape[-2], images.shape[-1]
        return diffjscc.Symbols(self.values, size, rate)

    def decode(self, received):
        return self.image


GOOD = torch.ones(1, 8, dtype=torch.complex64)
GREY = torch.full((1, 3, 32, 32), 0.5)


@pytest.mark.parametrize(
    ("values", "image", "told"),
    [
        (2 * GOOD, GREY, r"mean power 4; it must be 1 ± 0\.001.*normalise_power"),
        (torch.nan * GOOD, GREY, "mean power nan"),
        (GOOD.to(torch.complex128), GREY, r"complex128 \(1, 8\); they must be complex64"),
        (GOOD.repeat(1, 2), GREY, "takes 16 channel uses for 32x32 pixels .* allows 8"),
        (GOOD, GREY[..., :16], r"images of torch.float32 \(1, 3, 32, 16\); they must be"),
        (GOOD, GREY + 0.7, r"images that Broken gave range from 1\.2 to 1\.2"),
        (GOOD, GREY * torch.nan, "images that Broken gave hold NaN"),
    ],
)
def test_mistakes_of_a_codec_are_named(
    values: torch.Tensor, image: torch.Tensor, told: str
) -> None:
    scheme = Scheme(Broken(values, image), "1/128")
    with pytest.raises(ValueError, match=told):
        scheme(torch.rand(1, 3, 32, 32), AWGN(3.0))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my_parts", "is not known"),
        ("nowhere:make", "there is no module 'nowhere'"),
        ("my_parts:make_shceme", "did you mean 'make_scheme'"),
        ("my_parts:PAGE", "my_parts has no 'PAGE'"),
        ("my_parts:Sharpen", "returned Sharpen; it must return a diffjscc.Scheme"),
    ],
)
def test_import_strings_that_cannot_be(folder: Path, tmp_path: Path, name: str, told: str) -> None:
    words = ("transmit", "photo.png", "--scheme", name, "-o", "out")
    started = Started(*words, folder=folder, said=tmp_path / "said")
    assert started.wait() == [2]
    assert told in " ".join(started.said.split())
    assert "Traceback" not in started.said

"""Training images from NumPy files, as data sets of small images come."""

from pathlib import Path

import numpy as np
import pytest

from diffjscc.data.arrays_file import ArraySource
from diffjscc.data.images import ImageError
from diffjscc.data.sources import open_source, pack


def test_an_array_of_images_is_a_source(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(12))
    source = open_source(tmp_path / "train.npz")
    assert isinstance(source, ArraySource)
    assert len(source) == len(set(source.names)) == 12
    assert np.array_equal(source[3], images[3])
    assert source.caption(3) is None
    assert len({source.sha256(n) for n in range(12)}) == 12
    packed = pack(source, tmp_path / "train.pack", 64, progress=False)
    assert np.array_equal(packed[11], images[11])  # small images are not enlarged
    np.savez(tmp_path / "other.npz", images=images[::-1])
    assert open_source(tmp_path / "other.npz").fingerprint != source.fingerprint


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.arange(3)}, "holds 0 arrays of images"),
        ({"a": np.zeros((2, 4, 4, 3), np.uint8), "b": np.ones((2, 4, 4, 3), np.uint8)}, "holds 2"),
        ({"a": np.zeros((2, 4, 4, 3), np.float32)}, "holds 0"),
        ({"a": np.zeros((0, 4, 4, 3), np.uint8)}, "holds 0"),
        ({"a": np.array([{}], dtype=object)}, "cannot be read"),
    ],
)
def test_other_files_are_refused(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=message):
        open_source(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"not a file of numpy", b"PK\x03\x04 cut"])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ImageError, match=r"x\.npz"):
        open_source(tmp_path / "x.npz")

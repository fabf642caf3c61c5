"""Files of torch.save, cut and changed at many places: data, or words."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffjscc.data.saved import DamagedError, load_saved


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3), "b": [1.5, "x"]}, tmp_path / "x.pt")
    loaded = load_saved(tmp_path / "x.pt")
    assert torch.equal(loaded["a"], torch.arange(3))
    assert loaded["b"] == [1.5, "x"]


@pytest.mark.parametrize("size", [10, 3_000])
def test_every_cut_has_words(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.rand(size), "text": "y" * size}, path)
    whole = path.read_bytes()
    for end in np.linspace(0, len(whole) - 1, 150).astype(int):
        path.write_bytes(whole[:end])
        with pytest.raises(DamagedError) as caught:
            load_saved(path)
        assert 0 < len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_saved(tmp_path / "none.pt")
    with pytest.raises(OSError, match="directory"):
        load_saved(tmp_path)

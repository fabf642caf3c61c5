"""Files of WITT and SwinJSCC that lack a tensor, or have one too many or of another shape."""

import random
from pathlib import Path

import pytest
import torch

from attempts import Attempts, unfinished
from diffjscc.pretrained.convert.published import Training, convert_published
from published_swin import State, miniature

KIND = "published files"
TRAINING = Training("awgn", (1.0, 13.0), snr_adaptive=True)
ODD = (
    torch.ones(()),
    torch.ones(0),
    torch.ones(2, 3, 1, 1, 1),
    torch.ones(7, dtype=torch.int64),
    torch.ones(3, 5),
    torch.ones(8, 8, dtype=torch.float64),
    torch.full((9, 2), torch.nan),
)


@pytest.mark.parametrize("both", [False, True])
def test_changed_tensors(both: bool, attempts: Attempts, tmp_path: Path) -> None:
    whole, path, target = miniature(not both, both), tmp_path / "codec.model", tmp_path / "w"
    rng, names = random.Random(both), sorted(whole)
    for number in range(40):
        name = rng.choice(names)
        state: State = dict(whole)
        if number % 4 == 0:
            del state[name]
        elif number % 4 == 1:
            state[f"{name}.more"] = torch.ones(2)
        else:
            state[name] = rng.choice(ODD)
        torch.save(state, path)
        found = attempts.call(KIND, lambda: convert_published(path, target, TRAINING))
        constant = name.endswith(("attn_mask", "relative_position_index"))
        assert isinstance(found, ValueError) or constant, name
        if isinstance(found, Path):
            for file in sorted(target.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            target.rmdir()
        assert not target.exists()
    assert unfinished(tmp_path) == []


def test_names_that_say_anything(attempts: Attempts, tmp_path: Path) -> None:
    rng = random.Random(1)
    words = ("snr", "99999999", "rayleigh", "w_o", "SA", "-5", "wo", "AWGN", "witt", "cbr", "é")
    for _ in range(60):
        name = "_".join(rng.choice(words) for _ in range(rng.randrange(1, 6)))
        found = attempts.call(KIND, lambda name=name: Training().completed(name))
        assert isinstance(found, Training)
        assert found.snr_db is not None
        assert found.snr_db[0] <= found.snr_db[1]
    for shape in ("empty", "folder"):
        path = tmp_path / shape
        path.mkdir() if shape == "folder" else path.touch()
        attempts.command(KIND, "convert", path, tmp_path / "out")
        assert not (tmp_path / "out").exists()

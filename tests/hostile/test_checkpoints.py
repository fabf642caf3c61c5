"""Checkpoints and weights: damaged, of something else, or made to harm. Words, never code."""

import json
import random
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from attempts import Attempts, unfinished
from diffjscc.pretrained.convert.checkpoint import state_tensors
from diffjscc.pretrained.convert.checkpoint_file import open_checkpoint
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.pretrained.single_file import SingleFile

KIND = "checkpoints"
COMPACT = Path(__file__).parents[2] / "src/diffjscc/pretrained/weights/compact"


def read(path: Path) -> None:
    """Read a checkpoint's weights, every number of them."""
    for value in state_tensors(open_checkpoint(path)).values():
        value.float().sum()


def small(path: Path, zipped: bool = True) -> bytes:
    """Write a small checkpoint as torch does, and return its bytes."""
    state = {"a": torch.arange(64.0), "b.weight": torch.ones(4, 4).half()}
    content = {"state_dict": state, "epoch": 3, "optimizer_states": [{"lr": 0.1}]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path.read_bytes()


def damaged(content: bytes, seed: int) -> Iterator[bytes]:
    """Cut, changed, doubled and filled versions of a file."""
    rng = random.Random(seed)
    for _ in range(12):
        yield content[: rng.randrange(len(content))]
    for _ in range(24):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 3, 20))):
            changed[rng.randrange(len(content))] = rng.randrange(256)
        yield bytes(changed)
    place = rng.randrange(len(content))
    yield content[:place] + content
    yield content[:place] + bytes(512) + content[place:]


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_checkpoints(zipped: bool, attempts: Attempts, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    whole = small(path, zipped)
    for content in damaged(whole, 1):
        path.write_bytes(content)
        attempts.call(KIND, lambda: read(path))


def test_pickles_of_anything(attempts: Attempts, tmp_path: Path) -> None:
    rng = random.Random(2)
    opcodes = b"().]}lpqRtdsuabcehijoNXVIJKMGTSUQBC0123\x80\x81\x85\x86\x87"
    opcodes += b"\x88\x89\x8a\x8b\x8c\x93\x94"
    path = tmp_path / "model.ckpt"
    for _ in range(40):
        program = bytes(rng.choice(opcodes) for _ in range(rng.randrange(1, 60)))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
            archive.writestr("archive/data/0", bytes(64))
        error = attempts.call(KIND, lambda: read(path))
        assert isinstance(error, ValueError)


def test_pickles_that_would_call_something(attempts: Attempts, tmp_path: Path) -> None:
    witness, path = tmp_path / "was-here", tmp_path / "model.ckpt"
    calls = ("os\nsystem", "posix\nsystem", "builtins\nexec", "builtins\neval", "torch\nload")
    for name in calls:
        text = f"touch {witness}" if "system" in name else f"open({str(witness)!r}, 'w')"
        argument = b"X" + struct.pack("<I", len(text)) + text.encode()
        for state in (b"", b"}(X\x0a\x00\x00\x00state_dict}(X\x01\x00\x00\x00a"):
            program = state + b"c" + name.encode() + b"\n(" + argument + b"tR"
            program += b"uu" if state else b""
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
            error = attempts.call(KIND, lambda: read(path))
            assert isinstance(error, ValueError)
    assert not witness.exists()


def test_single_files(attempts: Attempts, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    names = ("model.diffusion_model.a", "first_stage_model.b", "cond_stage_model.model.c")
    save_file({name: torch.ones(3) for name in names}, path, {"modelspec.prediction_type": "v"})
    for content in damaged(path.read_bytes(), 3):
        path.write_bytes(content)
        attempts.call(KIND, lambda: SingleFile.open(str(path)).check_prediction(None))
    for name in ("unet", "vae", "text_encoder"):
        save_file({key: torch.ones(3) for key in names}, path)
        error = attempts.call(KIND, lambda name=name: SingleFile.open(str(path)).network(name))
        assert isinstance(error, ValueError)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The bundled weights, to be damaged."""
    return shutil.copytree(COMPACT, tmp_path / "weights")


JSON = ["", "{", "[]", "null", "1e999", '{"class": 3}', '{"class": "os.system"}', "\ufeff{}", "NaN"]


def test_weights_folders_with_other_settings(attempts: Attempts, weights: Path) -> None:
    path = weights / "codec" / "config.json"
    good = path.read_text(encoding="utf-8")
    values = json.loads(good)
    texts = [*JSON, "[" * 100_000, "\0" * 9]
    for key in values:
        for value in (None, -1, "x", [], {"a": 1}, 10**30):
            texts.append(json.dumps(values | {key: value}))
        texts.append(json.dumps({k: v for k, v in values.items() if k != key}))
    for text in texts:
        path.write_text(text, encoding="utf-8")
        attempts.call(KIND, lambda: DiffJSCC.from_pretrained(weights, refiner=None, device="cpu"))
    path.write_text(good, encoding="utf-8")
    for text in JSON:
        (weights / "refiner.json").write_text(text, encoding="utf-8")
        error = attempts.call(KIND, lambda: DiffJSCC.from_pretrained(weights, device="cpu"))
        assert isinstance(error, ValueError)


def test_commands(attempts: Attempts, weights: Path, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    out = tmp_path / "out"
    (tmp_path / "file").write_text("text")
    cases = [
        (folder, "no files at all"),
        (tmp_path / "file", "a file"),
        ("nobody/nothing@", "no revision"),
        ("a b/c", "no hub id"),
        ("", "nothing"),
        (tmp_path / "nowhere", "nowhere"),
        (weights, "weights, not a checkpoint"),
    ]
    for source, _ in cases:
        for words in ([], ["--to", "released"]):
            assert attempts.command(KIND, "convert", source, out, *words).exit_code == 2
    shutil.copy(checkpoint / "model.ckpt", folder)
    good = (checkpoint / "config.yaml").read_text(encoding="utf-8")
    for text in (
        "",
        "a: b",
        "[]",
        "!!python/object/apply:os.system [ls]",
        "\t",
        "a: &a [*a]",
        good[:99],
    ):
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        assert attempts.command(KIND, "convert", folder, out).exit_code == 2
    (folder / "config.yaml").write_text(good, encoding="utf-8")
    for content in (b"", b"PK\x03\x04", b"<html>", bytes(600)):
        (folder / "model.ckpt").write_bytes(content)
        assert attempts.command(KIND, "convert", folder, out).exit_code == 2
    taken = attempts.command(KIND, "convert", checkpoint, folder)
    assert "exists already" in taken.stderr
    assert not out.exists()
    below = tmp_path / "no" / "such" / "folder"
    assert attempts.command(KIND, "convert", checkpoint, below).exit_code == 0
    assert (below / "codec").is_dir()
    assert not unfinished(tmp_path)

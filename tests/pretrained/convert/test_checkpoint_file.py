"""The reader of checkpoints: what it builds, what it leaves unbuilt, and what it refuses."""

import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffjscc.pretrained.convert.checkpoint import state_tensors
from diffjscc.pretrained.convert.checkpoint_file import open_checkpoint
from diffjscc.pretrained.convert.inert_pickle import MAX_STEPS, Inert, StoredTensor
from diffjscc.pretrained.storage import WeightsError
from lightning_checkpoint import Container, EarlyStopping, lightning, sparse
from peak import PEAK, needs_peak


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(6, 8, generator=generator)
    return OrderedDict(
        plain=base,
        half=base.half(),
        brain=base.bfloat16(),
        count=torch.tensor(7),
        index=torch.arange(12).reshape(3, 4),
        transposed=base.T,
        part=base[2:4, ::2],
        empty=torch.zeros(0, 3),
        parameter=nn.Parameter(base + 1),
        flags=base > 0,
    )


def read(path: Path) -> dict[str, Tensor]:
    return state_tensors(open_checkpoint(path))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_all_that_lightning_writes_is_passed_over(
    tmp_path: Path, protocol: int, zipped: bool
) -> None:
    path, expected = tmp_path / "model.ckpt", weights()
    torch.save(
        lightning(expected),
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    found = read(path)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    content = open_checkpoint(path).content
    (callback,) = content["callbacks"]
    assert isinstance(callback, Inert)
    assert callback.name.endswith("EarlyStopping")
    assert content["global_step"] == 25000
    moment = content["optimizer_states"][0]["state"][0]["exp_avg"]
    assert isinstance(moment, StoredTensor)  # described and never read


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": torch.ones(1), "b": Container()}, r"Container.*at 'b'"),
        ({"a": np.ones(2)}, r"_reconstruct.*at 'a'"),
        ({EarlyStopping: torch.ones(1)}, "EarlyStopping"),
        ({"a": [torch.ones(1)]}, "list under 'a'"),
        (Container(), r"Container.*where its weights should be"),
        ({"a": 1.5}, "float under 'a'"),
        ({}, "no state_dict"),
        ([], "no state_dict"),
    ],
)
def test_what_is_no_tensor_among_the_weights_is_named(
    tmp_path: Path, state: Any, message: str
) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": state}, path)
    with pytest.raises(WeightsError, match=message):
        read(path)


# Files by hand

MAGIC = b"\x80\x02"


def written(
    folder: Path, program: bytes, storage: bytes = bytes(16), method: int = zipfile.ZIP_STORED
) -> Path:
    """A zip file as torch writes it, with this pickle."""
    path = folder / "model.ckpt"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", MAGIC + program + b".")
        archive.writestr("archive/data/0", storage)
    return path


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def tensor(shape: str, stride: str, offset: int = 0, count: int = 4, key: str = "0") -> bytes:
    """The opcodes of a float32 tensor; `shape` and `stride` are opcodes of numbers."""
    storage = (
        b"(" + word("storage") + b"ctorch\nFloatStorage\n" + word(key) + word("cpu")
        + b"I%d\ntQ" % count
    )  # fmt: skip
    numbers = b"I%d\n(%st(%stNNt" % (offset, shape.encode(), stride.encode())
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers + b"R"


def state(value: bytes) -> bytes:
    return b"}(" + word("state_dict") + b"}(" + word("a") + value + b"uu"


def laughs(levels: int) -> bytes:
    """A tuple of ten tuples of ten tuples …"""
    layer = b"(" + b"h\x00" * 10 + b"tq\x00"
    return b")q\x00" + layer * levels


def call(marker: Path) -> bytes:
    """`os.system` on a command that leaves a trace."""
    return b"cposix\nsystem\n(" + word(f"touch {marker}") + b"tR"


def test_the_opcodes_by_hand_are_a_checkpoint(tmp_path: Path) -> None:
    path = written(tmp_path, state(tensor("I2\nI2\n", "I2\nI1\n")), np.arange(4.0, dtype="f4"))
    assert read(path)["a"].tolist() == [[0, 1], [2, 3]]


def test_calls_are_never_made(tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    good = tensor("I4\n", "I1\n")
    program = b"}(" + word("hook") + call(marker) + state(good)[2:]
    assert read(written(tmp_path, program)).keys() == {"a"}
    with pytest.raises(WeightsError, match=r"refused.*posix\.system.*nothing in it was run"):
        read(written(tmp_path, state(call(marker))))
    for program in (
        b"(" + word(f"touch {marker}") + b"iposix\nsystem\n",
        b"(cposix\nsystem\n" + word(f"touch {marker}") + b"o",
        call(marker) + b"}b",
        word("posix") + word("system") + b"\x93(" + word(f"touch {marker}") + b"t\x81",
    ):
        with pytest.raises(WeightsError, match=r"posix\.system"):
            read(written(tmp_path, program))
    assert not marker.exists()
    # The same pickle does run code where it is trusted, so that the test means something.
    pickle.loads(MAGIC + call(marker) + b".")
    assert marker.exists()


HOSTILE: dict[str, tuple[bytes, str]] = {
    "billion laughs": (state(laughs(40)), "holds tuple under 'a'"),
    "laughs as a key": (b"}(" + laughs(40) + b"Nu", "tuple"),
    "deep tuples": (state(b")" + b"\x85" * 100_000), "holds tuple under 'a'"),
    "deep key": (b"}(" + b")" + b"\x85" * 100_000 + b"Nu", "tuple"),
    "4 GB of text": (b"X" + b"\xff" * 4 + b"short", "asks for 4,294,967,295 bytes"),
    "huge text": (b"\x8d" + b"\xff" * 7 + b"\x7f", "damaged|bytes"),
    "huge integer": (b"\x8b" + b"\xff\xff\xff\x7f", "bytes"),
    "many digits": (b"L" + b"9" * 100_000 + b"L\n", "damaged"),
    "stack empty": (b"R", "damaged"),
    "no mark": (b"t", "damaged"),
    "memo empty": (b"h\x07", "damaged"),
    "unknown opcode": (b"\xff", "damaged"),
    "extension": (b"\x82\x01", "EXT1"),
    "named by a list": (b"]" + word("x") + b"\x93", "something other than strings"),
    "call of a number": (b"K\x01)R", "calls a int"),
    "odd items": (b"}(" + word("a") + b"u", "key without a value"),
    "append to text": (word("a") + b"Na", "appends to a str"),
    "other reference": (b"NQ", "no storage"),
    "outside the storage": (state(tensor("I5\n", "I1\n")), "does not hold"),
    "offset": (state(tensor("I4\n", "I1\n", offset=1)), "does not hold"),
    "huge shape": (state(tensor("I9000000000\nI9000000000\n", "I0\nI0\n")), "does not hold"),
    "negative stride": (state(tensor("I4\n", "I-1\n")), "_rebuild_tensor_v2"),
    "no such storage": (state(tensor("I4\n", "I1\n", key="../0")), "missing or cut short"),
    "long storage": (state(tensor("I4\n", "I1\n", count=10**15)), "missing or cut short"),
    "beyond 64 bits": (state(tensor("I4\n", "I1\n", count=10**30)), "_rebuild_tensor_v2"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_are_refused_in_words(tmp_path: Path, kind: str) -> None:
    program, message = HOSTILE[kind]
    with pytest.raises(WeightsError, match=message) as caught:
        read(written(tmp_path, program))
    assert len(str(caught.value)) < 1000


def test_hostile_containers_are_refused_in_words(tmp_path: Path) -> None:
    good = written(tmp_path, state(tensor("I4\n", "I1\n"))).read_bytes()
    directory = good.index(b"PK\x01\x02")
    wide = bytearray(good)
    wide[-10:-6] = b"\xf0\xff\xff\xff"  # size of the directory
    long = bytearray(good)
    long[directory + 20 : directory + 28] = b"\xf0\xff\xff\xff" * 2  # sizes of the first member
    moved = bytearray(good)
    moved[directory + 42 : directory + 46] = b"\x07\x00\x00\x00"  # its position
    tar = bytes(257) + b"ustar" + bytes(250)
    files = [good[:-30], good[: directory + 20], good[:60], wide, long, moved, tar, b"", b"text"]
    path = tmp_path / "model.ckpt"
    for content in files:
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"model\.ckpt is damaged, truncated or no"):
            read(path)
    path.write_bytes(tar)
    with pytest.raises(WeightsError, match=r"tar format of PyTorch before 0\.4"):
        read(path)
    bomb = written(tmp_path, b"N" * 99, bytes(50_000_000), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="compressed"):
        read(bomb)
    with pytest.raises(WeightsError, match="cannot be read"):
        read(tmp_path / "nowhere.ckpt")


def test_old_files_cut_short_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.ones(999)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for end in (len(content) - 1, len(content) // 4, 20, 3):
        path.write_bytes(content[:end])
        with pytest.raises(WeightsError, match=r"model\.ckpt is damaged"):
            read(path)


READING = (
    PEAK
    + """
import sys
import torch
from diffjscc.pretrained.convert.checkpoint_file import open_checkpoint
from diffjscc.pretrained.convert.checkpoint import state_tensors
before = peak()
for name in sys.argv[1:]:
    try:
        checkpoint = open_checkpoint(Path(name))
        for value in state_tensors(checkpoint).values():
            value.float().sum()
            checkpoint.forget()
    except ValueError as error:
        print(error)
print((peak() - before) / 1024)
"""
)


@needs_peak
def test_memory_stays_small(tmp_path: Path) -> None:
    paths = []
    kinds = ("billion laughs", "deep tuples", "4 GB of text", "huge shape")
    programs = {kind: HOSTILE[kind][0] for kind in kinds}
    programs["many lists"] = b"]" * (MAX_STEPS + 1)
    for kind, program in programs.items():
        folder = tmp_path / kind
        folder.mkdir()
        paths.append(written(folder, program))
    # Just above 4 GiB, where zip files need 64-bit sizes; the optimiser's zeros take no disk.
    large, size = tmp_path / "large.ckpt", (4 << 30) + 4096
    rest = tensor(f"I{size // 4}\n", "I1\n", count=size // 4, key="1")
    program = b"}(" + word("optimizer_states") + rest + state(tensor("I4\n", "I1\n"))[2:]
    sparse(large, {"archive/data.pkl": MAGIC + program + b".", "archive/data/1": size,
                   "archive/data/0": np.arange(4.0, dtype="f4").tobytes()})  # fmt: skip
    assert large.stat().st_size > size
    assert read(large)["a"].tolist() == [0, 1, 2, 3]
    command = [sys.executable, "-c", READING, *map(str, [*paths, large])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths) + 1
    assert "more than 500,000 steps" in lines[-2]
    assert float(lines[-1]) < 500  # MiB

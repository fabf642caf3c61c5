"""Files of torch.save as described data: the tensors in them and their positions in the file.

Both formats are read: zip files (PyTorch 1.6 and later, above 4 GB too), and five pickles followed
by the storages (before 1.6). `inert_pickle` reads the pickles, and nothing in them is run.
Tensors stay in the file until their numbers are used; those that nobody uses are never read.
"""

from __future__ import annotations

import mmap
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from diffjscc.pretrained.convert.inert_pickle import (
    Bounded,
    PickleError,
    Storage,
    StoredTensor,
    Value,
    read_pickle,
)
from diffjscc.pretrained.storage import WeightsError

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_DIRECTORY = 1 << 24  # bytes of a zip file's list of members; a full checkpoint's has 0.3 MB


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file, its tensors still on disk.

    Attributes:
        path: the file.
        content: the pickled value, tensors as `StoredTensor`.
        places: position and size in bytes of every storage, by its key.
        memory: the file, mapped.
    """

    path: Path
    content: Value
    places: dict[str, tuple[int, int]]
    memory: mmap.mmap

    def tensor(self, stored: StoredTensor, name: str) -> Tensor:
        """Map a tensor: its numbers are read from the file when they are used. It is read-only.

        Args:
            stored: the tensor's description.
            name: the tensor's name in errors.

        Raises:
            WeightsError: its storage is not in the file, or too small for it.
        """
        storage, shape = stored.storage, stored.shape
        if 0 in shape:
            return torch.empty(shape, dtype=storage.dtype)
        last = stored.offset + sum((n - 1) * s for n, s in zip(shape, stored.stride, strict=True))
        repeats = any(n > 1 and s == 0 for n, s in zip(shape, stored.stride, strict=True))
        if last >= storage.count or repeats:
            raise WeightsError(
                f"{self.path}: {name[:200]} has shape {list(shape)}, which its storage of "
                f"{storage.count:,} numbers does not hold; the file is damaged: fetch it again"
            )
        start, size = self.places.get(storage.key, (0, 0))
        if storage.count * storage.dtype.itemsize > size:
            raise WeightsError(
                f"{self.path}: the numbers of {name[:200]} (storage {storage.key[:40]}) are "
                f"missing or cut short: {size:,} of {storage.count * storage.dtype.itemsize:,} "
                "bytes are there; fetch it again"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")
            whole = torch.frombuffer(
                self.memory, dtype=storage.dtype, count=storage.count, offset=start
            )
        return whole.as_strided(shape, stored.stride, stored.offset)

    def forget(self) -> None:
        """Free the memory of the numbers read so far; they are read again if they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)


class _ShortReads(Bounded):
    """A seekable file for `zipfile` that returns at most a directory's size at a time."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, _MAX_DIRECTORY)
        self.seek, self.seekable = file.seek, file.seekable

    def read(self, count: int = _MAX_DIRECTORY) -> bytes:
        """Read `count` bytes, or fewer at the end of the file."""
        if not 0 <= count <= _MAX_DIRECTORY:
            raise PickleError(f"its zip directory claims {count:,} bytes")
        return self._file.read(count)


def open_checkpoint(path: Path) -> Checkpoint:
    """Read the description of a file's content; its tensors stay in the file.

    Raises:
        WeightsError: unreadable, damaged, or of another format.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
            if not start:
                raise PickleError("it is empty")
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if start.startswith(_ZIP):
                content, places = _read_zip(file, len(memory))
            elif start[257:262] == b"ustar":
                raise PickleError(
                    "it is in the tar format of PyTorch before 0.4; load it with such a version "
                    "and save its state_dict with a newer one"
                )
            elif start.startswith(_PICKLE):
                content, places = _read_legacy(file, len(memory))
            else:
                raise PickleError("its first bytes are not those of a file of torch.save")
            return Checkpoint(path, content, places, memory)
    except (PickleError, zipfile.BadZipFile, NotImplementedError) as error:
        raise WeightsError(
            f"{path} is damaged, truncated or no checkpoint ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def _read_zip(file: BinaryIO, size: int) -> tuple[Value, dict[str, tuple[int, int]]]:
    """Read the pickle of a zip file and find its storages."""
    with zipfile.ZipFile(cast("BinaryIO", _ShortReads(file))) as archive:
        members = {member.filename: member for member in archive.infolist()}
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise PickleError(f"it has {len(pickles)} members of the name data.pkl; torch writes one")
    root = pickles[0].removesuffix("data.pkl")
    order = members.get(f"{root}byteorder")
    if order is not None:
        position, length = _place(file, order, size)
        file.seek(position)
        if file.read(min(length, 16)) != sys.byteorder.encode():
            raise PickleError("its numbers have another byte order than this machine's")
    position, length = _place(file, members[pickles[0]], size)
    file.seek(position)
    content = read_pickle(file, length)
    prefix = f"{root}data/"
    return content, {
        name.removeprefix(prefix): _place(file, member, size)
        for name, member in members.items()
        if name.startswith(prefix)
    }


def _place(file: BinaryIO, member: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """Find the position and size in bytes of a member, which must be stored uncompressed."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise PickleError(
            f"its member {member.filename[:80]} is compressed or encrypted, which torch never does"
        )
    file.seek(member.header_offset)
    header = file.read(30)
    if len(header) < 30 or not header.startswith(_ZIP):
        raise PickleError(f"its member {member.filename[:80]} is not where its directory says")
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = member.header_offset + 30 + names
    if start + member.file_size > size:
        raise PickleError(
            f"its member {member.filename[:80]} claims {member.file_size:,} bytes; the file has "
            f"{size:,}"
        )
    return start, member.file_size


def _read_legacy(file: BinaryIO, size: int) -> tuple[Value, dict[str, tuple[int, int]]]:
    """Read the value of a file without a zip directory and find its storages."""
    file.seek(0)
    if read_pickle(file) != _LEGACY_MAGIC:
        raise PickleError("it is a pickle, but not one of torch.save")
    read_pickle(file)  # version of the format
    read_pickle(file)  # sizes of the writer's integers
    content, keys = read_pickle(file), read_pickle(file)
    widths = _widths(content)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise PickleError("it has no list of storages")
    places = {}
    for key in keys:
        count = int.from_bytes(file.read(8), sys.byteorder)
        start, length = file.tell(), count * widths.get(key, 0)
        if key not in widths:
            raise PickleError(f"no tensor gives the type of its storage {key[:40]}")
        if start + length > size:
            raise PickleError(f"it ends at {size:,} bytes, within its storage {key[:40]}")
        places[key] = (start, length)
        file.seek(start + length)
    return content, places


def _widths(content: Value) -> dict[str, int]:
    """Return the bytes per number of every storage that a value refers to, by its key."""
    widths: dict[str, int] = {}
    seen: set[int] = set()
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, StoredTensor):
            value = value.storage
        if isinstance(value, Storage):
            widths[value.key] = value.dtype.itemsize
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            left.extend(value.values() if isinstance(value, dict) else value)
    return widths

"""Atomic writing of files and folders, and hashes of files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from diffjscc.paths import resolved

_CAUSES = {
    errno.ENOSPC: "the disk is full; free some space or write elsewhere",
    errno.EDQUOT: "the disk quota is used up; free some space or write elsewhere",
    errno.EROFS: "the file system is read-only; write elsewhere",
    errno.EACCES: "no permission for this folder; change its permissions or write elsewhere",
    errno.EPERM: "no permission for this folder; change its permissions or write elsewhere",
}


_LONGEST_NAME = 255  # bytes, on all file systems in use


def check_output(path: Path, folder: bool) -> None:
    """Raise an error now if writing a file or folder later cannot succeed; nothing is made.

    Folders above it that do not exist count as possible.

    Raises:
        OSError: something of another kind has its name, a name is too long, a folder above it is
            none, or there is no permission.
    """
    for name in path.parts:
        if len(os.fsencode(name)) > _LONGEST_NAME:
            text = f"cannot write: a name has more than {_LONGEST_NAME} bytes; choose a shorter one"
            raise OSError(errno.ENAMETOOLONG, text, str(path))
    try:
        target = resolved(path)
    except RuntimeError as error:  # Python 3.11 and 3.12
        text = "cannot write: its symbolic links go round in a circle; correct the path"
        raise OSError(errno.ELOOP, text, str(path)) from error
    if target.exists():
        if folder and not target.is_dir():
            text = "cannot write: a file has this name; choose another folder"
            raise NotADirectoryError(errno.ENOTDIR, text, str(path))
        if not folder and not target.is_file():
            text = "cannot write: a folder or device has this name; choose another name"
            raise FileExistsError(errno.EEXIST, text, str(path))
        if not os.access(target, os.W_OK):
            text = "cannot write: it may only be read; change its permissions or write elsewhere"
            raise PermissionError(errno.EACCES, text, str(path))
    above = target if folder else target.parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        text = f"cannot write: {above} is a file, not a folder; correct the path"
        raise NotADirectoryError(errno.ENOTDIR, text, str(path))
    if not os.access(above, os.W_OK | os.X_OK):
        text = f"cannot write: {_CAUSES[errno.EACCES]}"
        raise PermissionError(errno.EACCES, text, str(path))


def identity(path: Path) -> tuple[int, int] | str:
    """Tell files apart: equal for two paths of one file, on file systems without case as well.

    Returns:
        Device and inode of a file that exists, else its path.
    """
    if path.exists():
        found = path.stat()
        return found.st_dev, found.st_ino
    return str(resolved(path)).casefold()


def _temporary_prefix(path: Path) -> str:
    # Hidden, so that unfinished files are not listed as images; short, so that the name is valid
    # wherever the final one is.
    return f".{path.stem[:32]}.unfinished-"


def _machine() -> str:
    """Short name of this machine: process numbers tell nothing of the processes of others."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def temporary_path(path: Path) -> Path:
    """Choose a temporary path beside `path`, with its suffix; `remove_abandoned` knows it."""
    owner = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(_temporary_prefix(path) + owner + path.suffix)


def _owner_is_gone(temporary: Path, prefix: str) -> bool:
    """Return whether the process that began a temporary file ran here and has ended."""
    machine, _, rest = temporary.name.removeprefix(prefix).partition("-")
    number = rest.partition("-")[0]
    if os.name != "posix" or machine != _machine() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's
        return False
    return False


@contextlib.contextmanager
def atomic_write(path: Path, sync: bool = False) -> Iterator[Path]:
    """Provide a temporary path beside `path`; it is renamed to `path` when the block ends.

    Readers, and other processes that write the same path, never see an incomplete file. If the
    block raises, `path` stays as it was and the temporary file is removed. If `path` is a symbolic
    link, its target is replaced.

    Args:
        path: the file to write; its folder must exist.
        sync: whether to flush to the disk, so that a power failure loses nothing.

    Yields:
        A path in the same folder with the same suffix, which the block must create.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: the parent of `path` is a file.
        FileExistsError: `path` is a folder or a device.
        OSError: no permission, read-only file system, or disk full.
    """
    target = resolved(path)
    if not target.parent.exists():
        text = "cannot write: its folder does not exist; create it or correct the path"
        raise FileNotFoundError(errno.ENOENT, text, str(path))
    if not target.parent.is_dir():
        text = "cannot write: its parent is a file, not a folder; correct the path"
        raise NotADirectoryError(errno.ENOTDIR, text, str(path))
    if target.exists() and not target.is_file():
        text = "cannot write: a folder or device has this name; choose another name"
        raise FileExistsError(errno.EEXIST, text, str(path))
    remove_abandoned(target)
    temporary = temporary_path(target)
    try:
        yield temporary
        if sync:
            _flush(temporary)
        temporary.replace(target)
        if sync and os.name == "posix":
            _flush(target.parent)
    except OSError as error:
        ours = error.filename is None or Path(error.filename) == temporary
        if ours and error.errno in _CAUSES:
            text = f"cannot write: {_CAUSES[error.errno]}"
            raise OSError(error.errno, text, str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # already removed, or in an unwritable folder
            temporary.unlink()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Provide a temporary folder beside `path`; it is renamed to `path` when the block ends.

    Raises:
        FileExistsError: `path` is a file or a folder that is not empty.
        FileNotFoundError: its parent folder does not exist.
    """
    path = path.absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists already; choose another name or remove it first")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder; create it or correct the path")
    remove_abandoned(path)
    temporary = temporary_path(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_abandoned(path: Path, idle_seconds: float = 3600) -> None:
    """Remove the hidden temporary files and folders that killed processes left beside `path`.

    Args:
        path: as given to `atomic_write` or `new_folder`.
        idle_seconds: seconds without a write after which those of processes of other machines,
            of which nothing else is known, count as abandoned.
    """
    path = resolved(path)
    prefix, names = _temporary_prefix(path), []
    # A folder may be written and not listed. Thousands of entries are quickest by `os.scandir`.
    with contextlib.suppress(PermissionError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if name.startswith(prefix) and name.endswith(path.suffix):
            entry = path.with_name(name)
            with contextlib.suppress(OSError):  # another process wrote or removed it
                if _owner_is_gone(entry, prefix) or _idle_seconds(entry) > idle_seconds:
                    _remove(entry)


def _idle_seconds(entry: Path) -> float:
    """Seconds since a file, or anything in a folder, was written."""
    content = entry.rglob("*") if entry.is_dir() else ()
    written: float = max(part.stat().st_mtime for part in (entry, *content))
    return time.time() - written


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink()


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Lock of a folder: one run writes there at a time."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # on Windows: nothing is locked
    fcntl = None  # type: ignore[assignment]


class FolderInUse(ValueError):  # noqa: N818 - a state that callers handle
    """Another run writes into a folder; names its process and machine."""


class FolderLock:
    """Advisory lock on a file of its own; the system releases it when the process dies.

    Args:
        path: the file; made if need be, removed by `release`.

    Raises:
        FolderInUse: another run holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None
        if fcntl is None:
            return
        while self._file is None:
            file = path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with file:
                    file.seek(0)
                    holder = file.read().strip() or "another process"
                raise FolderInUse(
                    f"{path.parent} is in use by {holder}; wait until it has ended, or choose "
                    "another folder"
                ) from None
            except OSError:  # a file system without locks
                file.close()
                return
            # Between opening and locking, the holder before may have removed the file.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    self._file = file
                    break
            file.close()
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()

    def release(self) -> None:
        """Let others have the folder."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

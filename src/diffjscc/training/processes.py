"""Processes that train together: what they agree on, and who of them speaks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from diffjscc.data.lock import FolderInUse, FolderLock

# torch is imported where it is needed: a wrong config is refused before it is loaded.
if TYPE_CHECKING:
    from accelerate import Accelerator

# Patience with a process that packs images, computes latents or validates while others wait;
# torch's own limit is ten minutes.
PATIENCE = timedelta(days=7)

_REPORTS = "diffjscc/reports"


def largest(values: Sequence[int], accelerator: Accelerator) -> list[int]:
    """Largest of each value over all processes, which must all call this."""
    if accelerator.num_processes == 1:
        return list(values)
    import torch  # noqa: PLC0415
    from torch import distributed  # noqa: PLC0415

    agreed = torch.tensor(values, device=accelerator.device)
    distributed.all_reduce(agreed, distributed.ReduceOp.MAX)
    return [int(value) for value in agreed.tolist()]


@contextmanager
def alone_in(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Lock the folder of a run for its processes; all of them stop if another run holds it.

    Raises:
        FolderInUse: it does.
        OSError: nothing can be written there.
    """
    from accelerate.utils import broadcast_object_list  # noqa: PLC0415

    held: FolderLock | None = None
    refusals: list[str | None] = [None]
    if accelerator.is_main_process:
        try:
            held = FolderLock(folder / ".lock")
        except FolderInUse as error:
            refusals = [str(error)]
    (refusal,) = broadcast_object_list(refusals)
    if refusal is not None:
        raise FolderInUse(refusal)
    try:
        yield
    finally:
        if held is not None:
            held.release()


def speaks_first() -> bool:
    """Return whether no other process has said yet why all of them stop.

    Before the processes have met, the first one of each machine speaks.
    """
    if not _together():
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        return _reports(1) == 1
    except RuntimeError:  # its keeper has left, after its own words
        return False


def others_stopped() -> bool:
    """Return whether another process has said why all of them stop."""
    if not _together():
        return False
    try:
        return _reports(0) > 0
    except RuntimeError:
        return True


def let_go() -> None:
    """Give the other processes' threads a moment before this process ends.

    Gloo's thread takes Python's lock to let go of the last sums that processes exchanged, and torch
    holds that lock while it waits for the thread. Right after an iteration the one may wait for the
    other for ever; asleep, this thread lends the lock.
    """
    if _together():
        time.sleep(0.5)


def _reports(more: int) -> int:
    """Number of reports that processes have made, with `more` of this one."""
    from torch.distributed import distributed_c10d  # noqa: PLC0415

    return int(distributed_c10d._get_default_store().add(_REPORTS, more))


def _together() -> bool:
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()

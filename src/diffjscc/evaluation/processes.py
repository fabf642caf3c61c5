"""The processes that share a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState

from diffjscc.pretrained.diffjscc import choose_device

Item = TypeVar("Item")

# Patience with the slowest process; torch's own limit of minutes is for training steps.
PATIENCE = timedelta(days=7)


class Processes:
    """This process among those that were started together.

    Args:
        device: "auto", "cpu", "cuda", …

    Attributes:
        device: that this process computes on.

    Raises:
        ValueError: there is no such device.
    """

    def __init__(self, device: str) -> None:
        asked = choose_device(device)
        # Unless asked for a CPU, Accelerate takes several processes without GPUs for one each.
        self._state = PartialState(cpu=asked.type == "cpu", timeout=PATIENCE)
        alone = self._state.num_processes == 1 or device != "auto"
        self.device: torch.device = asked if alone else self._state.device

    @property
    def index(self) -> int:
        """Number of this process."""
        return int(self._state.process_index)

    @property
    def leads(self) -> bool:
        """Return whether this is the process that writes messages and common files."""
        return bool(self._state.is_main_process)

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items that are this process's work."""
        return items[self.index :: self._state.num_processes]

    def wait(self) -> None:
        """Wait until all processes are here."""
        self._state.wait_for_everyone()

    def leader_first(self) -> AbstractContextManager[None]:
        """Have the leading process run a block before all others."""
        first: AbstractContextManager[None] = self._state.main_process_first()
        return first

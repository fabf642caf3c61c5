"""Imports of large modules at the start of a command."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from diffjscc.deferred import uncollected


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import without the garbage collector, which passes over what is there from then on."""
    with uncollected():
        yield
        if not gc.get_freeze_count():  # once a process: garbage is set aside as well, and stays
            gc.freeze()

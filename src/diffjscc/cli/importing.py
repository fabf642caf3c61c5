"""Imports of large modules at the start of a command."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Pause the garbage collector, and have it pass over what was imported from then on.

    Modules are hundreds of thousands of objects that stay. Collections, which come with so many
    new ones, would walk through all of them several times: a tenth of the time of `import torch`.
    """
    if gc.get_freeze_count() or not gc.isenabled():
        yield  # once a process: garbage that is set aside as well would stay
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

"""Progress of long work within one image, for whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Part = TypeVar("Part")
# Called with (name of the work, parts done, parts in all).
Listener = Callable[[str, int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` after every part of long work that is done within the `with` block."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def report(work: str, done: int, total: int) -> None:
    """Report that `done` of `total` parts of some work are done; a total of 0 is unknown."""
    listener = _listener.get()
    if listener is not None:
        listener(work, done, total)


def reported(parts: Sequence[Part], work: str) -> Iterator[Part]:
    """Pass parts of some work on, and report each as done when the next one is asked for."""
    report(work, 0, len(parts))
    for done, part in enumerate(parts, 1):
        yield part
        report(work, done, len(parts))


@contextmanager
def working(work: str) -> Iterator[None]:
    """Report that some work, of which no parts are known, begins and ends."""
    report(work, 0, 0)
    yield
    report(work, 1, 1)

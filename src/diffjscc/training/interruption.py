"""Signals that ask a training to stop: it finishes its step, saves, and goes on another day."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# SLURM announces the end of a job's time by SIGTERM or, where asked to, by SIGUSR1; Windows lacks
# the latter. Exit codes are a shell's for SIGTERM (128 + 15) and for Ctrl-C (128 + 2).
EXIT_CODES = {
    getattr(signal, name): code
    for name, code in (("SIGTERM", 143), ("SIGUSR1", 143), ("SIGINT", 130))
    if hasattr(signal, name)
}

SAVED = "what was saved before stays, and the same command goes on from there"


class Interrupted(KeyboardInterrupt):
    """A signal ended the work, and what was finished is saved.

    Attributes:
        code: exit code of a process that ends by it.
    """

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(f"stopped by {_name(number)}: {saved}")
        self.code = EXIT_CODES[number]


class Interruption:
    """Memory of the first signal that came.

    Args:
        patience: seconds in which a second Ctrl-C counts as the first one again.

    Attributes:
        asked: its number; 0 while there is none.
        at_once: raise `Interrupted` as soon as a signal comes, in work that may be cut short.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self.patience = patience
        self.asked = 0
        self.at_once = False
        self._first = 0.0

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, as Python's `signal` calls it; a second Ctrl-C stops at once."""
        del frame
        if not self.asked:
            self._first = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._first >= self.patience:
            raise Interrupted(number, f"a second time, so at once; {SAVED}")
        self.asked = self.asked or int(number)
        if self.at_once:
            raise Interrupted(number, SAVED)


@contextmanager
def listening(patience: float = 0.0) -> Iterator[Interruption]:
    """Note signals within a `with` block instead of ending the process.

    Args:
        patience: see `Interruption`.

    Outside the main thread, where Python handles no signals, none is noted.
    """
    interruption = Interruption(patience)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption.note) for number in EXIT_CODES}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def stopping() -> Iterator[None]:
    """Have signals raise `Interrupted` within a `with` block, so that nothing stays half-written.

    `listening` may be used within the block.
    """
    with listening() as interruption:
        interruption.at_once = True
        yield


def ignore_signals() -> None:
    """Ignore signals in a process that is about to end."""
    for number in EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

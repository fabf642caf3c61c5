"""Work that reports its steps, ends when nobody looks any more, and never takes too long."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

Result = TypeVar("Result")

TIME_LIMIT = 180.0  # seconds of one request
PATIENCE = 15.0  # seconds that a step waits for somebody to look at it


class TimeLimitError(ValueError):
    """A request took longer than the page allows."""


class Progress(Protocol):
    """A function that work calls after every step."""

    def __call__(self, done: int, total: int, preview: Tensor | None = None) -> None:
        """Report steps done, steps in all, and perhaps a preview of the result, [3, H, W]."""
        ...


class _CancelledError(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True, eq=False)
class Step:
    """A step of a job: `done` of `total`, and perhaps a preview of the result, [3, H, W]."""

    done: int
    total: int
    preview: Tensor | None = None


@dataclass(frozen=True)
class Done(Generic[Result]):
    """A job's result."""

    value: Result


class Jobs:
    """Work in threads of its own.

    Args:
        time_limit: of a request, in seconds.
        patience: seconds that a step waits for somebody to look at it.
    """

    def __init__(self, time_limit: float = TIME_LIMIT, patience: float = PATIENCE) -> None:
        self._time_limit = time_limit
        self._patience = patience
        self._closed = threading.Event()
        self._threads: set[threading.Thread] = set()

    def close(self) -> None:
        """End all work at its next step, and wait for that."""
        self._closed.set()
        for thread in list(self._threads):
            thread.join(self._patience)

    def run(self, work: Callable[[Progress], Result]) -> Iterator[Step | Done[Result]]:
        """Run `work`, and give its steps and then its result.

        Closing the iterator cancels the work at its next step; so does leaving it alone for the
        patience, as a browser does that went away.

        Args:
            work: called with a function that it calls after every step.

        Raises:
            TimeLimitError: the work took longer than the time limit.
            Exception: whatever `work` raised.
        """
        messages: queue.Queue[Step | Done[Result] | BaseException] = queue.Queue(maxsize=1)
        left = threading.Event()
        deadline = time.monotonic() + self._time_limit

        def post(message: Step | Done[Result] | BaseException) -> None:
            waited = time.monotonic() + self._patience
            while not (left.is_set() or self._closed.is_set()) and time.monotonic() < waited:
                try:
                    return messages.put(message, timeout=0.2)
                except queue.Full:
                    continue
            raise _CancelledError

        def report(done: int, total: int, preview: Tensor | None = None) -> None:
            if time.monotonic() > deadline:
                raise TimeLimitError(
                    f"this took longer than {self._time_limit:.0f} s and was stopped; take fewer "
                    "steps or a smaller image"
                )
            post(Step(done, total, preview))

        def worker() -> None:
            try:
                try:
                    post(Done(work(report)))
                except _CancelledError:
                    return
                except BaseException as error:  # handed to the one who waits
                    post(error)
            except _CancelledError:
                return
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=worker, daemon=True)
        self._threads.add(thread)
        thread.start()
        try:
            while True:
                try:
                    message = messages.get(timeout=1)
                except queue.Empty:
                    if self._closed.is_set():
                        return
                    continue
                if isinstance(message, BaseException):
                    raise message
                yield message
                if isinstance(message, Done):
                    return
        finally:
            left.set()

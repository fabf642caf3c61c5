"""Latest request of every visitor, so that work for an older one ends."""

from __future__ import annotations

import threading
from collections import OrderedDict

MOST_VISITS = 200  # older ones are forgotten


class Visits:
    """Number of each visitor's latest request, by the session's name."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def renew(self, session: str) -> int:
        """Count a new request, which ends all earlier ones; returns its number."""
        with self._lock:
            number = self._latest.get(session, 0) + 1
            self._latest[session] = number
            self._latest.move_to_end(session)
            while len(self._latest) > MOST_VISITS:
                self._latest.popitem(last=False)
            return number

    def is_latest(self, session: str, number: int) -> bool:
        """Return whether no later request of the visitor is known."""
        return self._latest.get(session, number) == number

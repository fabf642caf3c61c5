"""Latest choice of every visitor, so that work for an older one ends."""

from __future__ import annotations

import threading
from collections import OrderedDict

from diffjscc.evaluation.images import SourceImage
from diffjscc.web.settings import DemoSettings

MOST_VISITS = 200  # older ones are forgotten


class Visits:
    """The image and settings that each visitor chose last, by the session's name."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, tuple[str, DemoSettings]] = OrderedDict()
        self._lock = threading.Lock()

    def choose(self, session: str, source: SourceImage, settings: DemoSettings) -> None:
        """Note a choice."""
        with self._lock:
            self._latest[session] = source.digest, settings
            self._latest.move_to_end(session)
            while len(self._latest) > MOST_VISITS:
                self._latest.popitem(last=False)

    def chosen(self, session: str, source: SourceImage, settings: DemoSettings) -> bool:
        """Return whether that is still the visitor's latest choice, or none is known."""
        key = source.digest, settings
        return self._latest.get(session, key) == key

"""The hub where it responds, else the files that were downloaded before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from diffjscc.data.download import responds

_PROBE_SECONDS = 10.0


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Have the hub's libraries read their cache alone during the block if the hub is out of reach.

    They retry every file for half a minute otherwise, those in the cache too. A mirror is set by
    HF_ENDPOINT, the cache by HF_HOME, and HF_HUB_OFFLINE=1 keeps from the network altogether.

    Raises:
        OSError: there is no home folder for the cache.
    """
    from huggingface_hub import constants  # noqa: PLC0415 - slow, and files need it seldom

    if constants.HF_HOME.startswith("~"):
        raise OSError("this user has no home folder to keep downloads in; set HF_HOME to a folder")
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _responds(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@cache
def _responds(endpoint: str) -> bool:
    return responds(endpoint, _PROBE_SECONDS)

"""Files of published weights that metrics need: in this package, on this machine, or fetched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from diffjscc.data.download import DownloadError, download
from diffjscc.data.files import sha256_of
from diffjscc.data.saved import DamagedError, load_saved
from diffjscc.paths import from_environment

FOLDER_VARIABLE = "DIFFJSCC_METRIC_WEIGHTS"
MIRROR_VARIABLE = "DIFFJSCC_METRIC_WEIGHTS_URL"
# Weights that are part of this package; NOTICE.md there states their terms.
PACKAGED = Path(__file__).parent / "published"
CONNECT_SECONDS = 10.0

# Reasons why addresses failed: without a network a process waits for each only once.
_failures: dict[str, str] = {}


class MetricUnavailable(OSError):  # noqa: N818 - a state that callers handle
    """A metric's weights are neither on this machine nor to be fetched; names the way out."""


@dataclass(frozen=True)
class WeightFile:
    """A file of published weights.

    Attributes:
        names: file names it goes by; it is saved under the first.
        url: where it is published.
        sha256: its SHA-256 or the first digits of it; None where the publisher states none.
    """

    names: tuple[str, ...]
    url: str
    sha256: str | None


def find_weights(
    metric: str, files: tuple[WeightFile, ...], folder: Path | None = None
) -> list[Path]:
    """Find weight files on this machine; fetch those that are missing.

    Looks in `folder`, in the folder that the environment variable DIFFJSCC_METRIC_WEIGHTS names,
    among the packaged weights, and in the user's cache ($XDG_CACHE_HOME or ~/.cache,
    /diffjscc/metrics). What is in none of them is downloaded to the cache; an address that fails
    is not tried again by this process. DIFFJSCC_METRIC_WEIGHTS_URL names a mirror, the address of
    a folder that has the files under their first names.

    Args:
        metric: that needs the files, for the error's text.
        files: that it needs.
        folder: searched first.

    Returns:
        One path for each file.

    Raises:
        MetricUnavailable: names the metric, each missing file, the places, and the way out.
    """
    cached = _cache_folder()
    own = [place for place in (folder, _named(FOLDER_VARIABLE)) if place is not None]
    folders = [*own, PACKAGED, *([] if cached is None else [cached])]
    found = {file: _find(file, folders) for file in files}
    for file, path in found.items():
        if path is not None:
            continue
        found[file] = target = None if cached is None else cached / file.names[0]
        failure = _fetch(file, target)
        if failure is not None:
            missing = [other for other in files if _find(other, folders) is None]
            places = ", ".join(str(place) for place in folders if place != PACKAGED)
            raise MetricUnavailable(
                f"{metric} weights missing: {' and '.join(other.names[0] for other in missing)}; "
                f"looked in {places}; downloading failed: {failure}. "
                f"Fetch {' and '.join(other.url for other in missing)} on a machine that is online "
                f"and set {FOLDER_VARIABLE} to the folder they lie in"
            )
    return [path for path in found.values() if path is not None]


def check_hash(path: Path, file: WeightFile) -> None:
    """Check that the file at `path` is `file`, byte by byte.

    Raises:
        MetricUnavailable: it has another SHA-256; names both, and the way out.
    """
    found = sha256_of(path)
    if not found.startswith(file.sha256 or ""):
        raise MetricUnavailable(
            f"{path} has SHA-256 {found} where {file.sha256} is expected: it is damaged, cut short "
            f"or another file. Delete it, and it is fetched again; or save {file.url} in its place"
        )


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a .pth file, without running any code in it.

    Raises:
        MetricUnavailable: the file is damaged.
    """
    try:
        state: dict[str, Tensor] = load_saved(path)
    except DamagedError as error:
        raise MetricUnavailable(
            f"{path} is damaged or no weights at all ({error}); delete it, and it is fetched again"
        ) from error
    return state


def fill(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load `state`, read from `path`, into `module`: every key of both.

    Raises:
        MetricUnavailable: names the file and the keys that differ.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise MetricUnavailable(f"{path} holds other weights than are needed: {error}") from error


def _named(variable: str) -> Path | None:
    try:
        return from_environment(variable)
    except ValueError as error:
        raise MetricUnavailable(str(error)) from None


def _cache_folder() -> Path | None:
    """The user's cache of metric weights; None for a user without a home folder."""
    try:
        cache = _named("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        return None
    return cache / "diffjscc/metrics"


def _find(file: WeightFile, folders: list[Path]) -> Path | None:
    """The first of the places and names that is a file."""
    paths = (place / name for place in folders for name in file.names)
    return next((path for path in paths if path.is_file()), None)


def _fetch(file: WeightFile, path: Path | None) -> str | None:
    """Download `file` unless that failed before in this process; what went wrong, or None."""
    if path is None:
        return "this user has no home folder to keep it in; set XDG_CACHE_HOME to a folder"
    mirror = os.environ.get(MIRROR_VARIABLE)
    url = f"{mirror.rstrip('/')}/{file.names[0]}" if mirror else file.url
    if url not in _failures:
        try:
            download(url, path, file.sha256, attempts=1, timeout=CONNECT_SECONDS)
        except DownloadError as error:
            _failures[url] = error.reason
        except OSError as error:  # the cache cannot be written
            _failures[url] = str(error)
    return _failures.get(url)

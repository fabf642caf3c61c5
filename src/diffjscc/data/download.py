"""Downloads with resumption, retries and checksums; files appear only when complete.

Proxies are taken from the environment (https_proxy, no_proxy), and nothing is downloaded where
HF_HUB_OFFLINE is set.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

from rich.progress import Progress, TaskID

from diffjscc.data.files import sha256_of

CHUNK_BYTES = 1 << 18
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class DownloadError(OSError):
    """A file could not be downloaded.

    Attributes:
        url: address of the file.
        path: local path.
        reason: cause and remedy.
    """

    def __init__(self, url: str, path: Path, reason: str) -> None:
        super().__init__(
            f"could not download {url}: {reason}. A copy from elsewhere can be saved as {path}"
        )
        self.url, self.path, self.reason = url, path, reason


class _TransientError(Exception):
    """A failure that may not recur at the next attempt."""


def download(
    url: str,
    path: Path,
    sha256: str | None = None,
    *,
    check: Callable[[Path], None] | None = None,
    progress: Progress | None = None,
    attempts: int = 4,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Download `url` to `path`, unless it exists.

    The file is written to `path`.part and renamed when it is complete and its checksum is correct.
    A .part of an interrupted call is continued (HTTP Range) if the server (If-Range with ETag or
    date, kept in `path`.part.tag) or `sha256` can confirm that the file is still the same;
    otherwise the download starts over. If a continued file has the wrong checksum, it is
    downloaded again from the start, once.

    Of several processes that download one path, one does and the others wait for it.

    Args:
        url: http or https.
        path: local path; its folder is created.
        sha256: hexadecimal SHA-256 of the file, or at least its first 8 digits. An existing file
            with another checksum is replaced.
        check: raises ValueError for a file that is not the one expected, which is then replaced,
            or not accepted.
        progress: progress display to which a bar is added; the caller starts and stops it.
        attempts: number of consecutive attempts without a new byte before giving up.
        pause: seconds before the second attempt, doubled at each consecutive one.
        timeout: seconds to wait for a response, and for each chunk of the file.

    Returns:
        `path`.

    Raises:
        DownloadError: no connection, HF_HUB_OFFLINE is set, refused, not found, a wrong checksum,
            or a file that `check` refuses.
        ValueError: `url`, `sha256` or `attempts` is not valid.
    """
    path = Path(path)
    if not re.match(r"https?://[^/]", url):
        raise ValueError(f'url is "{url}"; give an http:// or https:// address')
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise ValueError(f'sha256 is "{sha256}"; give 8 to 64 digits 0-9a-f')
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}; it must be at least 1")
    lock = _lock(path)
    if _is_there(path, sha256, check):
        if lock.exists():  # of a process that was killed
            _remove(lock)
        return path
    if is_offline():
        raise DownloadError(url, path, "HF_HUB_OFFLINE is set; unset it to use the network")
    path.parent.mkdir(parents=True, exist_ok=True)
    from huggingface_hub.utils import WeakFileLock  # noqa: PLC0415 - slow

    with WeakFileLock(lock):
        try:
            if _is_there(path, sha256, check):  # another process has downloaded it meanwhile
                return path
            transfer = _Transfer(url, path, sha256 is not None, progress, timeout)
            transfer.complete(lambda part: _check_part(part, sha256, check), attempts, pause)
        finally:
            _remove(lock)
    return path


def is_complete(path: Path) -> bool:
    """Return whether a file is there, and no process is downloading it or was killed doing so."""
    return path.is_file() and not _lock(path).exists()


def _lock(path: Path) -> Path:
    return path.with_name(path.name + ".part.lock")


def _remove(lock: Path) -> None:
    with suppress(OSError):  # Windows removes no open file; others may be as quick
        lock.unlink()


def is_offline() -> bool:
    """Return whether the environment variable HF_HUB_OFFLINE keeps from the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def mirrored(variable: str, url: str) -> str:
    """Return the address of a folder of files: that of a mirror if the environment names one."""
    return (os.environ.get(variable) or url).rstrip("/")


def _is_there(path: Path, sha256: str | None, check: Callable[[Path], None] | None) -> bool:
    """Return whether the file has been downloaded before."""
    if not path.is_file() or not (sha256 is None or sha256_of(path).startswith(sha256)):
        return False
    try:
        if check is not None:
            check(path)
    except ValueError:
        return False
    return True


def _check_part(path: Path, sha256: str | None, check: Callable[[Path], None] | None) -> None:
    """Raise ValueError, with the cause, unless a complete .part is the file expected."""
    found = sha256_of(path)
    if not found.startswith(sha256 or ""):
        raise ValueError(
            f"its SHA-256 is {found} where {sha256} is expected; the file on the server has "
            "changed, or a log-in page or proxy responded in its place"
        )
    if check is not None:
        check(path)


class _Transfer:
    """Transfer of one file from `url` to `path`.part."""

    def __init__(
        self, url: str, path: Path, checked: bool, progress: Progress | None, timeout: float
    ) -> None:
        self.url, self.path, self.checked, self.timeout = url, path, checked, timeout
        self.part = path.with_name(path.name + ".part")
        self.tag = path.with_name(path.name + ".part.tag")
        self.continued = False  # whether the file consists of several responses
        self.progress = progress
        self.task: TaskID | None = None

    def complete(self, check: Callable[[Path], None], attempts: int, pause: float) -> None:
        """Download the file, check it, and give it its name.

        Args:
            check: raises ValueError, with the cause, if the .part is not the file expected.
            attempts: see `download`.
            pause: see `download`.
        """
        self.run(attempts, pause)
        try:
            try:
                check(self.part)
            except ValueError:
                if not self.continued:
                    raise
                self.discard()  # the existing part may have been of another version of the file
                self.run(attempts, pause)
                check(self.part)
        except ValueError as error:
            self.discard()
            raise DownloadError(self.url, self.path, str(error)) from error
        self.tag.unlink(missing_ok=True)
        self.part.replace(self.path)

    def run(self, attempts: int, pause: float) -> None:
        """Download the whole file into the .part, over several connections if necessary."""
        if self.progress is not None and self.task is None:
            self.task = self.progress.add_task(self.path.name, total=None)
        failures, furthest = 0, self.size()
        while True:
            try:
                self.receive()
                return
            except _TransientError as error:
                failures = 0 if self.size() > furthest else failures + 1
                furthest = max(furthest, self.size())
                if failures >= attempts:
                    raise DownloadError(self.url, self.path, str(error)) from error
            time.sleep(pause * 2 ** max(failures - 1, 0))

    def receive(self) -> None:
        """Send one request, for the rest if the .part can be continued, and store the response."""
        offset = self.size()
        tag = self.tag.read_text() if self.tag.is_file() else None
        headers = {"User-Agent": "diffjscc"}
        if offset > 0 and (tag or self.checked):
            headers["Range"] = f"bytes={offset}-"
            if tag:
                headers["If-Range"] = tag
        try:
            response = _open(Request(self.url, headers=headers), self.timeout)
        except HTTPError as error:
            error.close()
            if error.code == 416 and "Range" in headers:  # nothing follows the .part
                if error.headers.get("Content-Range") == f"bytes */{offset}":
                    self.continued = True
                    return
                self.discard()
                self.receive()
                return
            raise self.explained(error) from error
        except (OSError, HTTPException) as error:
            raise self.explained(error) from error
        with response:
            if response.status == 206 and _range_start(response) != offset:
                self.discard()
                raise _TransientError("the server sent another part of the file than requested")
            self.store(response, offset if response.status == 206 else 0)

    def store(self, response: HTTPResponse, offset: int) -> None:
        """Write the body of the response into the .part, starting at byte `offset`."""
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length else None
        self.continued = offset > 0
        if not self.continued:
            self.remember_tag(response)
        size = offset
        with self.part.open("ab" if self.continued else "wb") as file:
            while True:
                if self.progress is not None and self.task is not None:
                    self.progress.update(self.task, completed=size, total=total)
                try:
                    chunk = response.read(CHUNK_BYTES)
                except (OSError, HTTPException) as error:
                    raise _TransientError(f"the connection was lost after {size} bytes") from error
                if not chunk:
                    break
                file.write(chunk)
                size += len(chunk)
        if total is not None and size < total:
            raise _TransientError(f"the connection was lost after {size} of {total} bytes")

    def remember_tag(self, response: HTTPResponse) -> None:
        """Keep a validator for If-Range: a strong ETag, else the date of last modification."""
        tag = response.headers.get("ETag")
        if not tag or tag.startswith("W/"):
            tag = response.headers.get("Last-Modified")
        if tag:
            self.tag.write_text(tag)
        else:
            self.tag.unlink(missing_ok=True)

    def explained(self, error: OSError | HTTPException) -> Exception:
        """Classify a failed request as a transient or a final failure, with its cause."""
        if isinstance(error, HTTPError):
            if error.code in TRANSIENT_STATUS:
                return _TransientError(
                    f"the server responded {error.code} ({error.reason}); try again later"
                )
            if error.code in (404, 410):
                reason = f"the server responded {error.code}: no such file; its address has changed"
            else:
                reason = f"the server responded {error.code} ({error.reason})"
            return DownloadError(self.url, self.path, reason)
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = (
                f"the server's certificate is not trusted ({cause.verify_message}); "
                "set SSL_CERT_FILE to the certificates of this network"
            )
            return DownloadError(self.url, self.path, reason)
        return _TransientError(
            f"no connection to {urlsplit(self.url).netloc} ({cause}); check the network "
            "connection, or set https_proxy"
        )

    def size(self) -> int:
        """Return the size of the .part in bytes."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        """Remove the .part and its tag."""
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)
        self.continued = False


def responds(url: str, timeout: float) -> bool:
    """Return whether a server gives any response at all, refusals included, within `timeout` s."""
    try:
        _open(Request(url, headers={"User-Agent": "diffjscc"}, method="HEAD"), timeout).close()
    except HTTPError as error:
        error.close()
    except (OSError, HTTPException):
        return False
    return True


def _range_start(response: HTTPResponse) -> int | None:
    """Parse the first byte position of a 206 response; None if it is missing."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _open(request: Request, timeout: float) -> HTTPResponse:
    """Open a request by the proxies of the environment, within `timeout` seconds in all.

    urllib itself waits that long for each of a host's addresses: minutes behind a firewall that
    drops packets.
    """
    answer: SimpleQueue[HTTPResponse | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(build_opener().open(request, timeout=timeout))
        except Exception as error:
            answer.put(error)

    Thread(target=ask, daemon=True).start()
    late = TimeoutError(f"no response within {timeout:g} s")
    try:
        result = answer.get(timeout=timeout)
    except Empty:
        raise late from None
    # The socket has the same time limit and may reach it first.
    if isinstance(result, TimeoutError) or isinstance(
        getattr(result, "reason", None), TimeoutError
    ):
        raise late from None
    if isinstance(result, Exception):
        raise result
    return result

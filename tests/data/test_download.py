"""The downloader against a server on this machine that cuts, forgets, refuses and lies."""

import hashlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.progress import Progress

from diffjscc.data.download import DownloadError, download, responds
from diffjscc.data.files import sha256_of

OLD = bytes(range(256)) * 4096
NEW = OLD[::-1]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Origin:
    """A file on a server, and how the server misbehaves."""

    content: bytes = NEW
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"new"'})
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)  # sent before it starts to serve
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    silent: bool = False
    slow: float = 0.0  # seconds before it answers
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(dict(handler.headers))
        time.sleep(self.slow)
        if self.silent:
            time.sleep(1)
            return
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range") in (None, *self.headers.values())
        start = int(asked[1]) if asked and self.ranges and same else 0
        if start >= len(self.content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        body = self.content[start:]
        handler.send_header("Content-Length", str(len(body)))
        if start:
            size = len(self.content)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)


@pytest.fixture
def origin() -> Iterator[Origin]:
    served = Origin()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/file.bin"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sets" / "file.bin"


def leave_part(path: Path, content: bytes, tag: str | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    path.with_name("file.bin.part").write_bytes(content)
    if tag is not None:
        path.with_name("file.bin.part.tag").write_text(tag)


def names(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


@pytest.mark.parametrize("digits", [8, 64])
def test_a_whole_file_arrives_and_is_not_fetched_twice(
    origin: Origin, path: Path, digits: int
) -> None:
    for _ in range(2):
        assert download(origin.url, path, sha256(NEW)[:digits]) == path
    assert path.read_bytes() == NEW
    assert names(path) == ["file.bin"]
    assert len(origin.requests) == 1


def test_a_file_with_another_checksum_is_replaced(origin: Origin, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(OLD)
    assert sha256_of(download(origin.url, path, sha256(NEW))) == sha256(NEW)


def test_a_cut_connection_is_resumed_where_it_broke(origin: Origin, path: Path) -> None:
    origin.cuts = [300_000, 400_000]
    # One attempt is enough, since each brings new bytes.
    download(origin.url, path, attempts=1, pause=0)
    assert path.read_bytes() == NEW
    assert names(path) == ["file.bin"]
    asked = [request.get("Range") for request in origin.requests]
    assert asked == [None, "bytes=300000-", "bytes=700000-"]
    assert origin.requests[2]["If-Range"] == '"new"'


def test_an_interrupted_call_is_continued_by_the_next(origin: Origin, path: Path) -> None:
    origin.cuts = [300_000, 0, 0]
    with pytest.raises(DownloadError, match="was lost after 300000 of 1048576 bytes"):
        download(origin.url, path, attempts=2, pause=0)
    assert names(path) == ["file.bin.part", "file.bin.part.tag"]
    download(origin.url, path)
    assert path.read_bytes() == NEW
    assert origin.requests[-1]["Range"] == "bytes=300000-"


def test_a_whole_part_needs_only_its_name(origin: Origin, path: Path) -> None:
    leave_part(path, NEW, '"new"')
    download(origin.url, path)
    assert path.read_bytes() == NEW
    assert len(origin.requests) == 1


def test_a_server_without_ranges_is_asked_again_from_the_start(origin: Origin, path: Path) -> None:
    origin.ranges, origin.cuts = False, [300_000]
    download(origin.url, path, sha256(NEW), pause=0)
    assert path.read_bytes() == NEW


def test_a_server_that_always_breaks_off_at_the_same_byte_is_given_up(
    origin: Origin, path: Path
) -> None:
    origin.ranges, origin.cuts = False, [300_000] * 9
    with pytest.raises(DownloadError, match="was lost after 300000"):
        download(origin.url, path, attempts=3, pause=0)
    assert len(origin.requests) == 4  # the first brings new bytes, three do not


@pytest.mark.parametrize(
    ("headers", "tag"),
    [
        ({"ETag": '"new"'}, '"old"'),
        ({"Last-Modified": "Mon, 02 Jun 2025 10:00:00 GMT"}, "Sun, 01 Jun 2025 10:00:00 GMT"),
    ],
)
def test_a_part_of_another_version_is_thrown_away(
    origin: Origin, path: Path, headers: dict[str, str], tag: str
) -> None:
    origin.headers = headers
    leave_part(path, OLD[:500_000], tag)
    download(origin.url, path)
    assert path.read_bytes() == NEW
    assert len(origin.requests) == 1


def test_without_a_tag_the_checksum_finds_the_other_version(origin: Origin, path: Path) -> None:
    origin.headers = {"ETag": 'W/"weak"'}
    leave_part(path, OLD[:500_000])
    download(origin.url, path, sha256(NEW))
    assert path.read_bytes() == NEW
    assert [request.get("Range") for request in origin.requests] == ["bytes=500000-", None]


def test_without_tag_or_checksum_nothing_is_continued(origin: Origin, path: Path) -> None:
    leave_part(path, OLD[:500_000])
    download(origin.url, path)
    assert path.read_bytes() == NEW
    assert [request.get("Range") for request in origin.requests] == [None]


def test_a_weak_tag_does_not_vouch_for_a_part(origin: Origin, path: Path) -> None:
    origin.headers, origin.cuts = {"ETag": 'W/"weak"'}, [300_000]
    download(origin.url, path, pause=0)
    assert path.read_bytes() == NEW
    assert [request.get("Range") for request in origin.requests] == [None, None]


def test_a_part_longer_than_the_file_is_thrown_away(origin: Origin, path: Path) -> None:
    leave_part(path, OLD + OLD)
    download(origin.url, path, sha256(NEW))
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("part", [b"", NEW[:1000]])
def test_a_wrong_checksum_leaves_no_file(origin: Origin, path: Path, part: bytes) -> None:
    leave_part(path, part)
    with pytest.raises(DownloadError) as caught:
        download(origin.url, path, sha256(OLD))
    assert sha256(NEW) in str(caught.value)
    assert sha256(OLD) in str(caught.value)
    assert names(path) == []
    assert len(origin.requests) == (2 if part else 1)


def test_a_missing_file_is_not_asked_for_twice(origin: Origin, path: Path) -> None:
    origin.statuses = [404, 404]
    with pytest.raises(DownloadError, match="404") as caught:
        download(origin.url, path)
    assert caught.value.url == origin.url
    assert str(path) in str(caught.value)
    assert names(path) == []
    assert len(origin.requests) == 1


def test_an_overloaded_server_is_asked_again(origin: Origin, path: Path) -> None:
    origin.statuses = [503, 429]
    start = time.monotonic()
    download(origin.url, path, pause=0.1)
    assert time.monotonic() - start >= 0.3  # 0.1 s, then twice that
    assert path.read_bytes() == NEW


def test_no_server_is_said_in_a_sentence(path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(DownloadError, match=rf"no connection to 127\.0\.0\.1:{port}.*https_proxy"):
        download(f"http://127.0.0.1:{port}/file.bin", path, attempts=2, pause=0)
    assert names(path) == []


def test_a_silent_server_is_not_waited_for(origin: Origin, path: Path) -> None:
    origin.silent = True
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"within 0\.2 s"):
        download(origin.url, path, attempts=1, timeout=0.2)
    assert time.monotonic() - start < 0.9


def test_the_bar_counts_what_was_there_already(origin: Origin, path: Path) -> None:
    leave_part(path, NEW[:500_000], '"new"')
    progress = Progress(disable=True)
    download(origin.url, path, progress=progress)
    assert progress.tasks[0].description == "file.bin"
    assert (progress.tasks[0].completed, progress.tasks[0].total) == (len(NEW), len(NEW))


def test_nonsense_is_refused_before_anything_is_sent(path: Path) -> None:
    with pytest.raises(ValueError, match="https://"):
        download("file:///etc/hostname", path)
    with pytest.raises(ValueError, match="8 to 64 digits"):
        download("http://127.0.0.1/x", path, "abc")
    with pytest.raises(ValueError, match="attempts is 0"):
        download("http://127.0.0.1/x", path, attempts=0)


def test_of_several_processes_one_downloads(origin: Origin, path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from diffjscc.data.download import download;"
        "download(sys.argv[1], Path(sys.argv[2]))"
    )
    origin.slow = 0.05
    started = [subprocess.Popen([sys.executable, "-c", code, origin.url, path]) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert path.read_bytes() == NEW
    assert names(path) == ["file.bin"]
    assert len(origin.requests) == 1


def test_the_environment_can_keep_from_the_network(
    origin: Origin, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("1", "true", "YES", "on"):
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
            download(origin.url, path)
    assert not path.parent.exists()
    assert not origin.requests
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    download(origin.url, path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download(origin.url, path) == path  # it is there
    assert len(origin.requests) == 1


def test_a_proxy_is_taken_from_the_environment(
    origin: Origin, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", origin.url.removesuffix("/file.bin"))
    download("http://images.invalid/file.bin", path)
    assert path.read_bytes() == NEW
    assert origin.requests[0]["Host"] == "images.invalid"


def test_a_file_that_is_refused_leaves_nothing(origin: Origin, path: Path) -> None:
    def refuse(file: Path) -> None:
        raise ValueError("this is a log-in page")

    with pytest.raises(DownloadError, match="this is a log-in page"):
        download(origin.url, path, check=refuse)
    assert names(path) == []


def test_whether_a_server_responds(origin: Origin, path: Path) -> None:
    assert responds(origin.url, 5)  # with an error, as it knows no HEAD
    assert not responds("http://127.0.0.1:1/", 5)
    assert not responds("http://nowhere.invalid/", 5)

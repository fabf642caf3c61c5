"""A server that answers as the hub does, for the files of one folder."""

import hashlib
import http.server
import json
from pathlib import Path

COMMIT = "0" * 40
REVISIONS = ("main", "v1", COMMIT)


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download needs, serving `folder` as someone/weights."""

    folder: Path

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        """Send the status and headers; return the body."""
        words = self.path.partition("?")[0].strip("/").split("/")
        content = b""
        if words[:1] == ["api"] and words[5:] and words[5] not in REVISIONS:
            headers = {"X-Error-Code": "RevisionNotFound"}
        elif words[:4] == ["api", "models", "someone", "weights"]:
            content = self.tree() if "tree" in words else self.facts()
            headers = {"Content-Type": "application/json"}
        elif words[:2] != ["someone", "weights"]:
            headers = {"X-Error-Code": "RepoNotFound"}
        elif words[3] not in REVISIONS:
            headers = {"X-Error-Code": "RevisionNotFound"}
        elif not (path := self.folder.joinpath(*words[4:])).is_file():
            headers = {"X-Error-Code": "EntryNotFound"}
        else:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"'}
        self.send_response(200 if content else 404)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        return content

    def names(self) -> list[str]:
        paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return [path.relative_to(self.folder).as_posix() for path in paths]

    def facts(self) -> bytes:
        """What the hub says of the whole: its commit and its files."""
        files = [{"rfilename": name} for name in self.names()]
        return json.dumps({"id": "someone/weights", "sha": COMMIT, "siblings": files}).encode()

    def tree(self) -> bytes:
        """What the hub says of each file."""
        files = []
        for name in self.names():
            content = (self.folder / name).read_bytes()
            oid = hashlib.sha1(content).hexdigest()
            files.append({"type": "file", "path": name, "size": len(content), "oid": oid})
        return json.dumps(files).encode()

    def log_message(self, *args: object) -> None: ...

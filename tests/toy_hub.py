"""A server that answers as the hub does, for the files of one folder."""

import base64
import hashlib
import http.server
import json
from pathlib import Path
from typing import Any

COMMIT = "0" * 40
REVISIONS = ("main", "v1", COMMIT)
WRITER, READER = "hf_writer", "hf_reader"
INVALID = "Invalid credentials in Authorization header"


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol for someone/weights that down- and uploads need.

    Attributes:
        folder: its files.
        refusal: status of the answer to every request, such as 403; None answers.
        commits: what was committed: messages, and branches.
    """

    folder: Path
    refusal: int | None = None
    commits: list[tuple[str, str]]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        words = self.path.partition("?")[0].strip("/").split("/")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if words == ["api", "validate-yaml"]:
            self.reply(200, {"errors": [], "warnings": []})
        elif token not in (WRITER, READER):
            self.reply(401, {"error": INVALID}, {"X-Error-Message": INVALID})
        elif token == READER:
            self.reply(403, {"error": "you have read access alone"})
        elif self.refusal is not None:
            self.reply(self.refusal, {"error": "refused"})
        elif words == ["api", "repos", "create"]:
            self.create(json.loads(body))
        elif words[:4] != ["api", "models", "someone", "weights"]:
            self.reply(404, {}, {"X-Error-Code": "RepoNotFound"})
        elif words[5] not in REVISIONS:
            self.reply(404, {}, {"X-Error-Code": "RevisionNotFound"})
        elif words[4] == "preupload":
            files = json.loads(body)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self.reply(200, {"files": [{"path": file["path"], **modes} for file in files]})
        else:
            self.commit([json.loads(line) for line in body.splitlines()], words[5])

    def create(self, asked: dict[str, Any]) -> None:
        """Make the repository of that name, if it is not there."""
        name = f"{asked['organization']}/{asked['name']}"
        if name != "someone/weights":
            self.reply(403, {"error": "not your namespace"})
        elif any(self.folder.iterdir()):
            self.reply(409, {"error": "it exists", "url": f"http://{self.headers['Host']}/{name}"})
        else:
            self.reply(200, {"url": f"http://{self.headers['Host']}/{name}"})

    def commit(self, lines: list[dict[str, Any]], branch: str) -> None:
        """Apply a commit to the folder."""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.commits.append((value["summary"], branch))
            elif line["key"] == "deletedFile":
                (self.folder / value["path"]).unlink()
            else:
                path = self.folder / value["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(value["content"]))
        address = f"http://{self.headers['Host']}/someone/weights/commit/{COMMIT}"
        self.reply(200, {"success": True, "commitUrl": address, "commitOid": COMMIT})

    def reply(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        """Send JSON."""
        content = json.dumps(value).encode()
        self.send_response(status)
        sizes = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for key, text in (sizes | (headers or {})).items():
            self.send_header(key, text)
        self.end_headers()
        self.wfile.write(content)

    def answer(self) -> bytes:
        """Send the status and headers; return the body."""
        words = self.path.partition("?")[0].strip("/").split("/")
        content = b""
        if self.refusal is not None:
            headers = {"X-Error-Message": INVALID} if self.refusal == 401 else {}
        elif words[:1] == ["api"] and words[5:] and words[5] not in REVISIONS:
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
        self.send_response(self.refusal or (200 if content else 404))
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

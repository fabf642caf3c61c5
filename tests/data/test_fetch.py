"""Fetching Kodak and OpenImages from a server on this machine, which is not always good."""

import base64
import hashlib
import io
import json
import socket
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from diffjscc.data.cifar import NAME, fetch_cifar10
from diffjscc.data.download import DownloadError
from diffjscc.data.fetch import choose_images, fetch_kodak, fetch_openimages, pixel_hash
from diffjscc.data.folders import FolderSource
from diffjscc.data.manifest import read_manifest


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    """Serves a folder; gives its address and the list of paths asked for."""
    servers = []

    def start(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", server.asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def nowhere():
    """An address where nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG")
    return buffer.getvalue()


IDS = [f"{index:016x}" for index in range(40)]


@pytest.fixture
def bucket(tmp_path):
    """What the public addresses hold: an image list and the images."""
    root = tmp_path / "bucket"
    (root / "train").mkdir(parents=True)
    rows = ["ImageID,Subset,OriginalURL,Title,OriginalMD5,Rotation"]
    for index, name in enumerate(IDS):
        (root / "train" / f"{name}.jpg").write_bytes(jpeg(index))
        md5 = base64.b64encode(hashlib.md5(b"the original").digest()).decode()
        rows.append(f'{name},train,https://x/{index},"a, title",{md5},0.0')
    (root / "list.csv").write_text("\n".join(rows) + "\n")
    return root


# Kodak


def test_kodak_is_kodak(kodak):
    known = json.loads(resources.files("diffjscc.data").joinpath("kodak.json").read_text())
    assert list(known) == [f"kodim{number:02d}.png" for number in range(1, 25)]
    for name, expected in known.items():
        found = pixel_hash(kodak / name)
        assert found == (expected["width"], expected["height"], expected["sha256"])


def test_kodak(serve, tmp_path, monkeypatch):
    """With 24 small images, and the list of their hashes, in the place of Kodak's."""
    served, known = tmp_path / "served", {}
    served.mkdir()
    for number in range(1, 25):
        path = served / f"kodim{number:02d}.png"
        Image.open(io.BytesIO(jpeg(number))).save(path)
        known[path.name] = dict(zip(("width", "height", "sha256"), pixel_hash(path), strict=True))
    (tmp_path / "kodak.json").write_text(json.dumps(known))
    listed = SimpleNamespace(files=lambda package: tmp_path)
    monkeypatch.setattr("diffjscc.data.fetch.resources", listed)
    url, asked = serve(served)
    paths = fetch_kodak(tmp_path / "kodak", base_url=url, progress=False)
    assert [path.name for path in paths] == list(known)
    assert sorted(p.name for p in (tmp_path / "kodak").iterdir()) == [p.name for p in paths]
    assert len(asked) == 24

    paths[4].write_bytes(paths[4].read_bytes()[:1000])  # damaged
    Image.open(paths[5]).save(paths[5], compress_level=0)  # the same pixels in another file
    paths[6].unlink()
    fetch_kodak(tmp_path / "kodak", base_url=url, progress=False)
    assert asked[24:] == ["/kodim05.png", "/kodim07.png"]


def test_another_image_is_not_taken_for_kodak(serve, tmp_path):
    (tmp_path / "served").mkdir()
    Image.new("RGB", (768, 512)).save(tmp_path / "served" / "kodim01.png")
    url, _ = serve(tmp_path / "served")
    with pytest.raises(DownloadError, match="another file than this Kodak image"):
        fetch_kodak(tmp_path / "kodak", base_url=url, progress=False)
    assert not (tmp_path / "kodak" / "kodim01.png").exists()
    (tmp_path / "served" / "kodim01.png").write_text("<html>please log in</html>")
    with pytest.raises(DownloadError, match=r"kodim01\.png.* is not a readable image"):
        fetch_kodak(tmp_path / "kodak", base_url=url, progress=False)


def test_kodak_offline_is_one_error(nowhere, tmp_path):
    with pytest.raises(DownloadError, match=r"kodim01\.png.*no connection"):
        fetch_kodak(tmp_path, base_url=nowhere, attempts=1, progress=False)


# OpenImages


def fetch(tmp_path, url, count=12, **options):
    arguments = {"list_url": f"{url}/list.csv", "base_url": url, "threads": 4, "attempts": 1}
    return fetch_openimages(
        tmp_path / "openimages", "train", count, progress=False, **(arguments | options)
    )


def test_openimages(bucket, serve, tmp_path):
    url, asked = serve(bucket)
    fetched = fetch(tmp_path, url, validation_fraction=0.3)
    assert fetched.failed == {}
    chosen = sorted(sorted(IDS, key=lambda n: hashlib.sha256(n.encode()).hexdigest())[:12])
    assert sorted(p.name for p in fetched.folder.iterdir()) == [f"{name}.jpg" for name in chosen]
    assert sorted(asked) == sorted(["/list.csv", *(f"/train/{name}.jpg" for name in chosen)])

    manifest = read_manifest(fetched.manifest)
    source = FolderSource(fetched.folder)
    assert [entry.name for entry in manifest.entries] == list(source.names)
    for entry in manifest.entries:
        content = (bucket / "train" / entry.name).read_bytes()
        assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert len(manifest.select(source, "train")) + len(manifest.select(source, "validation")) == 12


def test_a_second_run_fetches_what_is_missing(bucket, serve, tmp_path):
    url, asked = serve(bucket)
    fetched = fetch(tmp_path, url)
    gone = sorted(fetched.folder.iterdir())[3]
    gone.unlink()
    asked.clear()
    fetch(tmp_path, url)
    assert asked == [f"/train/{gone.name}"]
    asked.clear()
    more = fetch(tmp_path, url, count=15)
    assert len(asked) == 3
    assert len(list(more.folder.iterdir())) == 15


def test_some_bad_files_stop_nothing_and_are_reported(bucket, serve, tmp_path):
    chosen = choose_images(bucket / "list.csv", 12)
    (bucket / "train" / f"{chosen[0]}.jpg").unlink()
    (bucket / "train" / f"{chosen[1]}.jpg").write_text("<html>try later</html>")
    cut = bucket / "train" / f"{chosen[2]}.jpg"
    cut.write_bytes(cut.read_bytes()[:700])
    url, _ = serve(bucket)
    for _ in range(2):  # again, with nothing but bad ones to fetch
        fetched = fetch(tmp_path, url, threads=2)
        assert set(fetched.failed) == set(chosen[:3])
        assert "404" in fetched.failed[chosen[0]]
        assert "is not a readable image" in fetched.failed[chosen[1]]
        assert "cannot be decoded" in fetched.failed[chosen[2]]
        assert len(read_manifest(fetched.manifest).entries) == 9
        assert sorted(p.stem for p in fetched.folder.glob("*.jpg")) == sorted(chosen[3:])
    cut.write_bytes(jpeg(99))
    assert set(fetch(tmp_path, url).failed) == set(chosen[:2])


def test_offline_is_one_error_at_once(bucket, serve, nowhere, tmp_path):
    with pytest.raises(DownloadError, match=r"list\.csv.*no connection"):
        fetch(tmp_path, nowhere)
    url, _ = serve(bucket)
    with pytest.raises(DownloadError, match="4 consecutive failures; run again"):
        fetch(tmp_path, url, count=40, base_url=nowhere)
    with pytest.raises(DownloadError, match="all 2 images failed"):
        fetch(tmp_path, url, count=2, base_url=nowhere)
    assert len(fetch(tmp_path, url).folder.name) > 0  # back online, the same call goes on


def test_the_choice_depends_on_the_ids_alone(bucket, tmp_path):
    chosen = choose_images(bucket / "list.csv", 20)
    head, *rows = (bucket / "list.csv").read_text().splitlines()
    (tmp_path / "shuffled.csv").write_text("\n".join([head, *reversed(rows), rows[0]]))
    assert choose_images(tmp_path / "shuffled.csv", 20) == chosen
    assert choose_images(bucket / "list.csv", 7) == chosen[:7]
    assert len(set(chosen)) == 20
    assert chosen != sorted(chosen)


def test_wrong_lists(bucket, tmp_path):
    with pytest.raises(ValueError, match="lists 40 images"):
        choose_images(bucket / "list.csv", 41)
    with pytest.raises(ValueError, match="count is 0"):
        choose_images(bucket / "list.csv", 0)
    for text, problem in (
        ("<html>log in</html>\n", "no column ImageID"),
        ("", "no column ImageID"),
        ("ImageID,Subset\n../../secret,train\n", "invalid ImageID"),
    ):
        (tmp_path / "wrong.csv").write_text(text)
        with pytest.raises(ValueError, match=problem):
            choose_images(tmp_path / "wrong.csv", 1)


def test_the_kodak_table_is_complete():
    from importlib import resources  # noqa: PLC0415

    table = json.loads(resources.files("diffjscc.data").joinpath("kodak.json").read_text())
    assert len({entry["sha256"] for entry in table.values()}) == 24
    assert {(entry["width"], entry["height"]) for entry in table.values()} == {
        (768, 512),
        (512, 768),
    }


# Mirrors, and several processes


def test_mirrors_are_named_by_the_environment(bucket, serve, tmp_path, monkeypatch):
    url, asked = serve(bucket)
    (bucket / "list.csv").rename(bucket / "train-images-boxable-with-rotation.csv")
    monkeypatch.setenv("DIFFJSCC_OPENIMAGES_URL", f"{url}/")
    fetched = fetch_openimages(tmp_path / "openimages", "train", 3, attempts=1, progress=False)
    assert len(list(fetched.folder.iterdir())) == 3
    assert asked[0] == "/train-images-boxable-with-rotation.csv"
    (bucket / "kodim01.png").write_bytes(jpeg(0))
    monkeypatch.setenv("DIFFJSCC_KODAK_URL", url)
    with pytest.raises(DownloadError, match=f"{url}/kodim01.png.*another file than this Kodak"):
        fetch_kodak(tmp_path / "kodak", attempts=1, progress=False)


def test_processes_share_a_folder(bucket, serve, tmp_path):
    url, asked = serve(bucket)
    code = (
        "import sys; from diffjscc.data.fetch import fetch_openimages;"
        "fetch_openimages(sys.argv[1], 'train', 12, list_url=sys.argv[2] + '/list.csv',"
        "base_url=sys.argv[2], threads=4, attempts=1, progress=False)"
    )
    folder = str(tmp_path / "openimages")
    started = [subprocess.Popen([sys.executable, "-c", code, folder, url]) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    assert len(asked) == len(set(asked)) == 13
    names = sorted(path.name for path in (tmp_path / "openimages").rglob("*"))
    assert len(names) == 15  # the list, the folder, its manifest and 12 images


KILLED = """
import os, signal, sys
from diffjscc.data.fetch import fetch_openimages

def fetch(last):
    seen = 0
    def watch(event, arguments):
        nonlocal seen
        seen += (counted := event in ("open", "os.rename", "os.remove", "os.mkdir"))
        if counted and seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    fetch_openimages(sys.argv[1], "train", 12, list_url=sys.argv[2] + "/list.csv",
                     base_url=sys.argv[2], threads=2, attempts=1, progress=False)

for moment in range(10):
    child = os.fork()
    if child == 0:
        try:
            fetch(1 + 9 * moment)
        finally:
            os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
fetch(0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_at_any_moment_it_goes_on(bucket, serve, tmp_path):
    url, _ = serve(bucket)
    folder = tmp_path / "openimages"
    command = [sys.executable, "-c", KILLED, str(folder), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split().count("9") >= 5  # later ones may find everything there
    images = sorted((folder / "train").glob("*.jpg"))
    assert len(images) == 12
    for image in images:
        assert image.read_bytes() == (bucket / "train" / image.name).read_bytes()
    names = {path.name for path in folder.iterdir()}
    assert names >= {"list.csv", "train", "train.jsonl"}
    left = {path.name for path in folder.rglob("*")} - names - {image.name for image in images}
    assert not left, left
    assert len(read_manifest(folder / "train.jsonl").entries) == 12


# CIFAR-10


def cifar_archive(path, batches):
    with tarfile.open(path, "w:gz") as tar:
        for name, records in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(records)
            tar.addfile(member, io.BytesIO(records))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_cifar10(serve, tmp_path):
    served, names = tmp_path / "served", [f"data_batch_{n}.bin" for n in range(1, 6)]
    served.mkdir()
    generator = np.random.default_rng(0)
    batches = {
        name: generator.integers(0, 256, 4 * 3073, dtype=np.uint8).tobytes()
        for name in (*names, "test_batch.bin")
    }
    sha256 = cifar_archive(served / NAME, batches)
    url, asked = serve(served)
    folder = fetch_cifar10(tmp_path / "c", base_url=url, sha256=sha256, progress=False)
    training = np.load(folder / "train.npz")["images"]
    assert training.shape == (20, 32, 32, 3)
    record = np.frombuffer(batches["data_batch_2.bin"], np.uint8)[:3073]
    assert training[4, 5, 7].tolist() == [record[1 + c * 1024 + 5 * 32 + 7] for c in range(3)]
    assert len(list((folder / "test").iterdir())) == 4
    assert not (folder / NAME).exists()
    requests = len(asked)
    fetch_cifar10(tmp_path / "c", base_url=url, sha256=sha256, progress=False)
    assert len(asked) == requests
    del batches["data_batch_3.bin"]
    sha256 = cifar_archive(served / NAME, batches)
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch_cifar10(tmp_path / "d", base_url=url, sha256=sha256, progress=False)
    assert not (tmp_path / "d" / "train.npz").exists()
    with pytest.raises(DownloadError):
        fetch_cifar10(tmp_path / "e", base_url=url, sha256="0" * 64, attempts=1, progress=False)

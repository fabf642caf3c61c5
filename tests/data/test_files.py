"""Atomic writing: complete, or as it was before."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffjscc.data.files import atomic_write, new_folder, remove_abandoned, sha256_of


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")

    def fail_halfway():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "old"
    with atomic_write(path, sync=True) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".json"
    assert path.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("x")
    with atomic_write(tmp_path / "atomic") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "plain").stat().st_mode == (tmp_path / "atomic").stat().st_mode


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real" / "file.txt")
    with atomic_write(link) as temporary:
        temporary.write_text("through")
    assert link.is_symlink()
    assert (tmp_path / "real" / "file.txt").read_text() == "through"


def test_longest_file_name(tmp_path):
    path = tmp_path / ("é" * 125 + ".png")
    with atomic_write(path) as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_named(tmp_path):
    def fill():
        with atomic_write(tmp_path / "image.png") as temporary:
            temporary.write_text("begun")
            Path("/dev/full").write_text("x")

    with pytest.raises(OSError, match="disk is full") as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename.endswith("image.png")
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(FileNotFoundError, match="folder does not exist"),
        atomic_write(tmp_path / "missing" / "a.png"),
    ):
        pass
    with pytest.raises(NotADirectoryError), atomic_write(tmp_path / "file" / "a.png"):
        pass
    with pytest.raises(FileExistsError), atomic_write(tmp_path):
        pass
    with pytest.raises(FileExistsError, match="device"), atomic_write(Path("/dev/null")):
        pass
    assert Path("/dev/null").is_char_device()


def test_only_abandoned_files_are_removed(tmp_path):
    path = tmp_path / "train.pack"
    names = [".train.unfinished-0a0b0c0d.pack", ".train.unfinished-11111111.pack", "train.pack"]
    for name in names:
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / names[0], (0, 0))
    os.utime(tmp_path / names[2], (0, 0))
    remove_abandoned(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names[1:])
    with atomic_write(path) as temporary:
        temporary.write_text("x")
        assert temporary.name.startswith(".train.unfinished-")


@pytest.mark.skipif(os.name != "posix", reason="Windows does not tell whether a process has ended")
def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    begin = "from diffjscc.data.files import atomic_write, new_folder; import os, pathlib, sys\n"
    for kind, name in (("atomic_write", "a.png"), ("new_folder", "folder")):
        source = f"with {kind}(pathlib.Path(sys.argv[1])) as t:\n"
        source += "  (t / 'x' if t.is_dir() else t).write_text('x'); os._exit(9)"
        path = tmp_path / name
        command = [sys.executable, "-c", begin + source, str(path)]
        assert subprocess.run(command, check=False).returncode == 9
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert [name.partition("-")[0] for name in left] == [".a.unfinished", ".folder.unfinished"]
    with atomic_write(tmp_path / "b.png") as alive:
        alive.write_text("x")
        with atomic_write(tmp_path / "b.png") as other:  # of a living process: stays
            other.write_text("y")
        assert alive.exists()
    with atomic_write(tmp_path / "a.png") as temporary:
        temporary.write_text("y")
    with new_folder(tmp_path / "folder"):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.png", "b.png", "folder"]


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc" * 100000).hexdigest()

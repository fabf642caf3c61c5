"""Where training images come from: every source gives the same images in the same order."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from diffjscc.data.images import ImageError
from diffjscc.data.manifest import read_manifest, split_of, write_manifest
from diffjscc.data.shards import expand_braces, find_shards
from diffjscc.data.sources import (
    FolderSource,
    PackedSource,
    ShardSource,
    Subset,
    open_source,
    pack,
)
from locations import PHOTOGRAPHS


def image(seed, height=20, width=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path):
    """Six images, 0.png … 5.png in two folders, every other one with a caption."""
    root = tmp_path / "images"
    for index in range(6):
        place = root / ("a" if index < 3 else "b/deep")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index}.png").write_bytes(encoded(image(index, 20 + index)))
        if index % 2:
            (place / f"{index}.txt").write_text(f" Nº {index}\n", encoding="utf-8")
    (root / "a" / "notes.md").write_text("no image")
    (root / ".cache").mkdir()
    (root / ".cache" / "9.png").write_bytes(encoded(image(9)))
    return root


@pytest.fixture
def shards(tmp_path):
    """The same images in two shards, with what else lies in shards."""
    root = tmp_path / "shards"
    root.mkdir()
    for shard in range(2):
        members = [("./notes.json", b"{}"), ("__info__/._0.png", b"resource fork")]
        for index in range(3 * shard, 3 * shard + 3):
            if index % 2:
                members.append((f"{index}.txt", f" Nº {index}\n".encode()))
            members.append((f"{index}.png", encoded(image(index, 20 + index))))
            members.append((f"{index}.depth.png", encoded(image(100 + index))))
        write_tar(root / f"train-{shard:02d}.tar", members)
    return root


def check(source):
    """Images, captions and hashes are those of the fixtures, whatever the source."""
    assert len(source) == len(source.names) == 6
    for index in (5, 0, 3, 1, 4, 2, -1):
        number = index % 6
        assert source.names[index].endswith(f"{number}.png")
        pixels = source[index]
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, image(number, 20 + number))
        assert source.caption(index) == (f"Nº {number}" if number % 2 else None)
        content = encoded(image(number, 20 + number))
        assert source.sha256(index) == hashlib.sha256(content).hexdigest()
    with pytest.raises(IndexError):
        source[6]
    with pytest.raises(IndexError):
        source.caption(6)


def test_folder(folder):
    source = FolderSource(folder)
    check(source)
    assert source.names[0] == "a/0.png"
    assert source.names[5] == "b/deep/5.png"


def test_shards(shards):
    source = open_source(shards)
    check(source)
    assert source.names[0] == "train-00/0.png"
    assert open_source(shards / "train-*.tar").names == source.names
    assert open_source(str(shards / "train-{00..01}.tar")).names == source.names
    assert len(open_source(shards / "train-01.tar")) == 3


def test_packed(folder, tmp_path):
    packed = pack(FolderSource(folder), tmp_path / "runs" / "train.pack", progress=False)
    check(packed)
    check(open_source(tmp_path / "runs" / "train.pack"))
    with pytest.raises(ValueError, match="read-only"):
        packed[0][0, 0, 0] = 1


def test_subset(folder):
    source = FolderSource(folder)
    subset = Subset(source, [4, 1])
    assert subset.names == ("b/deep/4.png", "a/1.png")
    assert np.array_equal(subset[1], source[1])
    assert subset.caption(1) == "Nº 1"
    assert subset.sha256(0) == source.sha256(4)
    assert len({source.fingerprint, subset.fingerprint, Subset(source, [1, 4]).fingerprint}) == 3


def test_shards_with_equal_names_stay_apart(shards, tmp_path):
    (tmp_path / "more").mkdir()
    shutil.copy(shards / "train-00.tar", tmp_path / "more" / "train-00.tar")
    source = ShardSource([shards / "train-00.tar", tmp_path / "more" / "train-00.tar"])
    assert len(set(source.names)) == len(source) == 6


def test_shards_of_photographs(tmp_path):
    paths = sorted(PHOTOGRAPHS.glob("*.webp"))
    for number in range(2):
        members = [(f"{number}{path.name}", path.read_bytes()) for path in paths]
        members.insert(1, (f"{number}{paths[0].stem}.txt", b"an astronaut"))
        write_tar(tmp_path / f"train-{10 + number}.tar", members)
    source = ShardSource(find_shards(tmp_path / "train-{10..11}.tar"))
    assert len(source) == len(set(source.names)) == 2 * len(paths)
    index = source.names.index(f"train-11/1{paths[-1].name}")
    assert np.array_equal(source[index], np.asarray(Image.open(paths[-1])))
    captions = [source.caption(index) for index in range(len(source))]
    assert captions.count("an astronaut") == 2
    assert captions.count(None) == len(source) - 2


def test_damaged_shards_are_not_taken_for_short_ones(shards):
    whole = (shards / "train-00.tar").read_bytes()
    shard = shards / "train-00.tar"
    with tarfile.open(shard) as tar:
        last = tar.getmembers()[-1]
    damaged = [
        whole[: last.offset_data + 100],  # cut within an image,
        whole[: last.offset + 100],  # within a header,
        whole[: last.offset],  # and between two files
        whole[: last.offset] + b"x" * 512 + whole[last.offset + 512 :],
        b"not a tar file\n" * 100,
        b"",
    ]
    for content in damaged:
        shard.write_bytes(content)
        with pytest.raises(ImageError, match=r"train-00\.tar"):
            open_source(shards)
    with tarfile.open(shard, "w:gz") as tar:
        tar.add(shards / "train-01.tar", "x.png")
    with pytest.raises(ImageError, match="uncompressed"):
        open_source(shards)


def test_braces(tmp_path):
    assert expand_braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_braces("{8..10}") == ["8", "9", "10"]
    assert expand_braces("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]
    assert expand_braces("plain") == ["plain"]
    with pytest.raises(ImageError, match="is descending"):
        expand_braces("{3..1}")


def test_places_without_images(tmp_path, folder, shards):
    (tmp_path / "empty").mkdir()
    write_tar(tmp_path / "texts.tar", [("a.txt", b"x")])
    for place, problem in (
        (tmp_path / "empty", "contains no images"),
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "missing" / "train-*.tar", "does not exist"),
        (shards / "train-{00..02}.tar", r"train-02\.tar: does not exist"),
        (tmp_path / "texts.tar", "contains no images"),
        (folder / "a" / "0.png", "neither a .tar shard, a pack nor"),
    ):
        with pytest.raises(ImageError, match=problem):
            open_source(place)
    with pytest.raises(ImageError, match="no image"):
        ShardSource([])


# Packs


def test_a_pack_is_rebuilt_exactly_when_it_is_out_of_date(folder, tmp_path):
    path = tmp_path / "train.pack"

    def build(short_side=None):
        packed = pack(FolderSource(folder), path, short_side, progress=False)
        return packed, path.stat().st_mtime_ns, path.stat().st_ino

    first, *stamp = build()
    _, *again = build()
    assert again == stamp
    _, *resized = build(short_side=10)
    assert resized != stamp
    (folder / "a" / "0.png").write_bytes(encoded(image(50, 40)))
    changed, *_ = build(short_side=10)
    assert changed[0].shape == (13, 10, 3)
    (folder / "a" / "1.png").unlink()
    assert len(build(short_side=10)[0]) == 5
    check(first)  # what is open stays as it was


def test_short_side(folder, tmp_path):
    (folder / "a" / "0.png").write_bytes(encoded(image(0, 8, 100)))
    source = FolderSource(folder)
    packed = pack(source, tmp_path / "train.pack", short_side=21, progress=False)
    assert packed[0].shape == (8, 100, 3)
    assert packed[1].shape == (21, 30, 3)
    assert packed[5].shape == (21, 25, 3)  # 25x30, its short side reduced to 21
    expected = Image.fromarray(source[5]).resize((25, 21), Image.Resampling.LANCZOS)
    assert np.array_equal(packed[5], np.asarray(expected))
    with pytest.raises(ValueError, match="short_side is 0"):
        pack(source, tmp_path / "other.pack", short_side=0)


def test_unreadable_images_are_left_out_with_one_warning(folder, tmp_path):
    for index in (1, 4):
        path = next(folder.rglob(f"{index}.png"))
        path.write_bytes(path.read_bytes()[:200])
    with pytest.warns(UserWarning, match=r"omitted 2 of 6 .*1\.png") as caught:
        packed = pack(FolderSource(folder), tmp_path / "train.pack", progress=False)
    assert len(caught) == 1
    assert [name[-5:] for name in packed.names] == ["0.png", "2.png", "3.png", "5.png"]
    assert np.array_equal(packed[2], image(3, 23))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack(FolderSource(folder), tmp_path / "train.pack", progress=False)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(ImageError, match="none of the 6"):
        pack(FolderSource(folder), tmp_path / "other.pack", progress=False)
    assert not (tmp_path / "other.pack").exists()


def test_a_killed_build_leaves_no_pack(folder, tmp_path):
    source = FolderSource(folder)

    class Killed(FolderSource):
        def __getitem__(self, index):
            if index == 4:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        pack(Killed(folder), tmp_path / "train.pack", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["images"]
    junk = tmp_path / ".train.unfinished-01234567.pack"  # what a kill -9 leaves
    junk.write_bytes(b"half")
    os.utime(junk, (0, 0))
    check(pack(source, tmp_path / "train.pack", progress=False))
    assert not junk.exists()


def test_several_builders_at_once(folder, tmp_path):
    results = []

    def build():
        results.append(pack(FolderSource(folder), tmp_path / "train.pack", progress=False))

    builders = [threading.Thread(target=build) for _ in range(4)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(results) == 4
    for packed in results:
        check(packed)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "train.pack"]


def test_files_that_are_no_pack(folder, tmp_path):
    path = tmp_path / "train.pack"
    path.write_text("precious")
    with pytest.raises(ImageError, match="not a pack"):
        pack(FolderSource(folder), path, progress=False)
    assert path.read_text() == "precious"
    path.unlink()
    pack(FolderSource(folder), path, progress=False)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ImageError, match="not a complete pack"):
        PackedSource(path)
    with pytest.raises(ImageError, match="cannot be read"):
        PackedSource(tmp_path / "missing.pack")


# Manifests


def test_the_split_follows_content_alone(folder, shards, tmp_path):
    here = write_manifest(FolderSource(folder), tmp_path / "a.jsonl", 0.5, progress=False)
    there = write_manifest(open_source(shards), tmp_path / "b.jsonl", 0.5, progress=False)
    assert [(e.sha256, e.split) for e in here.entries] == [
        (e.sha256, e.split) for e in there.entries
    ]
    assert read_manifest(tmp_path / "a.jsonl") == here
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])["name"] == "a/0.png"


def test_the_split_has_the_size_asked_for_and_grows():
    hashes = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(20000)]
    chosen = {f: {h for h in hashes if split_of(h, f) == "validation"} for f in (0, 0.01, 0.1, 1)}
    assert len(chosen[0]) == 0
    assert len(chosen[1]) == 20000
    assert 2000 - 4 * 42 < len(chosen[0.1]) < 2000 + 4 * 42  # four standard deviations
    assert chosen[0.01] < chosen[0.1]


def test_selection_parts_a_source(folder, tmp_path):
    source = FolderSource(folder)
    manifest = write_manifest(source, tmp_path / "m.jsonl", 0.5, progress=False)
    parts = [manifest.select(source, "train"), manifest.select(source, "validation")]
    assert sorted(parts[0].names + parts[1].names) == list(source.names)
    packed = pack(source, tmp_path / "train.pack", progress=False)
    assert manifest.select(packed, "train").names == parts[0].names
    (folder / "new.png").write_bytes(encoded(image(7)))
    with pytest.raises(ValueError, match=r"1 of 7 .* new\.png"):
        manifest.select(FolderSource(folder), "train")
    everything = write_manifest(source, tmp_path / "all.jsonl", 0, progress=False)
    with pytest.raises(ValueError, match="validation split"):
        everything.select(source, "validation")
    with pytest.raises(ValueError, match="validation_fraction is 2"):
        write_manifest(source, tmp_path / "m.jsonl", 2)


def test_wrong_manifests(folder, tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(FolderSource(folder), path, 0.5, progress=False)
    first, second, *_ = path.read_text().splitlines()
    wrong = {
        "cut": first[:-10],
        "another key": first.replace("name", "title"),
        "another split": first.replace("train", "test").replace("validation", "test"),
        "a short hash": first.replace(json.loads(first)["sha256"], "abc"),
        "a name twice": second,
        "no object": "[1, 2]",
    }
    assert len(Counter(wrong.values())) == len(wrong)
    for text in wrong.values():
        path.write_text(f"{second}\n{text}\n")
        with pytest.raises(ImageError, match="line 2"):
            read_manifest(path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_manifest(tmp_path / "missing.jsonl")

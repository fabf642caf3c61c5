"""Training configs, checkpoints and data sets that nobody would choose to send."""

import copy
import io
import itertools
import json
import tarfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as to_safetensors
from torch import nn

from attempts import Attempts, unfinished
from diffjscc.data.datasets import DatasetSource
from diffjscc.data.images import ImageError
from diffjscc.data.manifest import read_manifest, write_manifest
from diffjscc.data.packed import PackedSource, pack
from diffjscc.data.readable import ReadableImages
from diffjscc.data.sources import FolderSource, ShardSource, open_source
from diffjscc.pretrained.storage import write_json
from diffjscc.training.checkpoint import Checkpoint, Progress
from diffjscc.training.codec_config import AdversarialConfig, FeedbackTrainingConfig, JSCCConfig
from diffjscc.training.codecs import build_training_codec
from diffjscc.training.config import OptimiserConfig, StageConfig, load_config
from diffjscc.training.control_config import ControlConfig
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.denoiser_config import DenoiserConfig
from diffjscc.training.ema import EMA
from diffjscc.training.latents import (
    INDEX,
    ImageLatents,
    LatentFolder,
    part_path,
    write_part,
)
from diffjscc.training.optimiser import Optimiser
from diffjscc.training.prior_config import PriorConfig, VAEConfig

NUMBERS = (".nan", ".inf", "-1", "1e400", "99999999999999999999", "null", "[]", "{a: 1}", "word")


def encoded(seed: int = 0, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(encoded(number))
    return folder


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Configs

KEYS = {
    "jscc": [
        *("run.iterations", "run.batch", "run.seed", "run.ema", "run.log_every", "data.crop"),
        *("run.skip_nonfinite", "optimiser.learning_rate", "optimiser.betas", "optimiser.clip"),
        *("channel.snr_db", "loss.floor"),
    ],
    "adversarial": ["adversary.weight", "adversary.start", "adversary.width"],
    "feedback": ["uncertainty", "everything"],
    "vae": ["vae.kernel", "vae.latent_channels", "vae.widths", "vae.deviation", "loss.lpips"],
    "prior": ["unet.widths", "unet.layers", "unet.norm_groups", "min_snr_gamma"],
    "control": ["precompute.bins", "snr_scale", "min_snr", "text_dropout", "memory.accumulate"],
    "decoder": ["window", "queue", "sampled.images", "loss.frechet", "shares.sampled"],
    "denoiser": ["denoiser.widths", "denoiser.blocks", "noise.deviation", "noise.coarseness"],
}
FITTING = {("optimiser.clip", "null"), ("min_snr_gamma", "null"), ("min_snr", "-1")}
KINDS: dict[str, type[StageConfig]] = {
    kind.stage: kind
    for kind in (
        JSCCConfig,
        AdversarialConfig,
        FeedbackTrainingConfig,
        VAEConfig,
        PriorConfig,
        ControlConfig,
        DecoderConfig,
        DenoiserConfig,
    )
}


@pytest.mark.parametrize("stage", KEYS)
def test_numbers_out_of_range_are_refused(
    attempts: Attempts, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for key, value in itertools.product(KEYS[stage], NUMBERS):
        override = f"{key}={value}"
        error = attempts.call(
            "training config", lambda o=override: load_config(KINDS[stage], f"compact-{stage}", [o])
        )
        if (key, value) not in FITTING:
            assert isinstance(error, ValueError), override
            assert key.split(".")[-1] in str(error)
            assert "\n" not in str(error)
    assert attempts.command("training config", "train", stage, override).exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stage", "override"),
    [
        ("jscc", "run.batch=1000000"),
        ("jscc", "data.crop=100000"),
        ("vae", "vae.kernel=4"),
        ("prior", "unet.widths=[]"),
        ("prior", "unet.widths=[100, 100, 100]"),
        ("decoder", "queue=1"),
        ("decoder", "window=31"),
        ("control", "precompute.bins=100000"),
        ("control", "run.seed=4294967296"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    attempts: Attempts, stage: str, override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert attempts.command("training config", "train", stage, override).exit_code == 2


CODECS = {
    "CompactJSCC": {
        "kernel": [4, 0, -1, 99],
        "widths": [[0, 8], [8], [10**9, 8], [-1, -1]],
        "encoder_blocks": [[-1, 1], [1000, 1]],
        "decoder_blocks": [[1, 10**9]],
        "expansion": [0, -2, 10**6],
        "condition_width": [0, -1, 10**9],
        "rate_channels": [[], [3], [0], [8, 4], [4, 4], [100000]],
        "snr_range_db": [[0, 0], [5, 1], [float("nan"), 1], [0, float("inf")], [1]],
        "breadth": [1],
    },
    "DeepJSCC": {
        "base_width": [0, -1, 10**9],
        "encoder_width": [0, 10**9],
        "decoder_width": [0],
        "channels": [0, 3, -2, 10**9],
        "downsamplings": [0, -1, 64],
        "encoder_blocks": [-1, 10**9],
        "snr_range_db": [[float("nan"), float("nan")], [14, 0]],
        "csi": ["none"],
    },
    "SwinJSCC": {
        "encoder_widths": [[], [0, 0, 0, 0], [128], [10**9] * 4],
        "encoder_heads": [[], [0, 0, 0, 0], [3, 5, 7, 9]],
        "decoder_depths": [[], [-1, 1, 1, 1], [10**9, 1, 1, 1]],
        "window": [0, -1, 10**9],
        "mlp_ratio": [0, -1, float("nan"), float("inf")],
        "modulation_layers": [0, -1, 10**9],
        "trained_size": [[0, 0], [8, 8], [10**9, 10**9]],
        "snr_range_db": [[float("inf"), float("nan")]],
    },
    "NoSuchJSCC": {"width": [1]},
}


@pytest.mark.parametrize("name", CODECS)
def test_codecs_that_cannot_be_are_refused(attempts: Attempts, name: str) -> None:
    for key, values in CODECS[name].items():
        for value in values:
            described = {"class": name, key: value}
            error = attempts.call("codec config", lambda d=described: build_training_codec(d))
            assert isinstance(error, ValueError), described
            assert "\n" not in str(error)


# Checkpoints


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def open_checkpoint(path: Path, images: str = "abc") -> Checkpoint:
    config = load_config(JSCCConfig, "compact-jscc")
    model = network()
    optimiser = Optimiser(model, OptimiserConfig())
    return Checkpoint(path, model, [optimiser], EMA(model, 0.9), config, images)


def test_damaged_checkpoints_are_said(attempts: Attempts, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    open_checkpoint(path).save(Progress(3, False, [1], [2]))
    assert open_checkpoint(path).restore() == Progress(3, False, [1], [2])
    whole, state = path.read_bytes(), torch.load(path, weights_only=True)
    rng = np.random.default_rng(0)
    contents = [b"", b"\0", b"\x80\x04.", b"PK\x05\x06" + b"\0" * 18, b"a: b", b"\xff" * 10000]
    contents += [whole[:end] for end in np.linspace(1, len(whole) - 1, 25).astype(int)]
    contents += [whole[:start] + rng.bytes(64) for start in rng.integers(0, len(whole), 10)]
    for content in contents:
        path.write_bytes(content)
        error = attempts.call("checkpoint", open_checkpoint(path).restore)
        assert isinstance(error, ValueError), content[:20]
        assert "checkpoint.pt is damaged" in str(error)
        assert "\n" not in str(error)
        assert path.read_bytes() == content
    other = network().double().state_dict()
    edits: list[Callable[[dict[str, object]], object]] = [
        *(
            lambda s, key=key: s.pop(key)
            for key in ("step", "model", "ema", "optimisers", "config")
        ),
        *(
            lambda s, key=key: s.update({key: 7})
            for key in ("model", "ema", "optimisers", "config")
        ),
        lambda s: s.update(step="three"),
        lambda s: s.update(config="a: [b"),
        lambda s: s.update(config="- 1"),
        lambda s: s.update(model={"weight": torch.zeros(9, 9), "bias": torch.zeros(2)}),
        lambda s: s.update(ema={**other}),
        lambda s: s.update(ema={}),
        lambda s: s.update(optimisers=[]),
        lambda s: s.update(optimisers=[[{"state": {}, "param_groups": []}]]),
        lambda s: s.update(images="others"),
    ]
    for number, edit in enumerate(edits):
        changed = copy.deepcopy(state)
        edit(changed)
        torch.save(changed, path)
        error = attempts.call("checkpoint", open_checkpoint(path).restore)
        if number != 0:  # without a step it starts again
            assert isinstance(error, ValueError), number
    for value in (torch.nan, torch.inf):
        holder = open_checkpoint(path)
        holder.model.bias.data.fill_(value)
        before = path.read_bytes()
        error = attempts.call("checkpoint", lambda h=holder: h.save(Progress(9)))
        assert "bias holds NaN or infinite values after iteration 9" in str(error)
        assert path.read_bytes() == before
    assert not unfinished(tmp_path)


def test_a_folder_in_place_of_a_checkpoint_is_said(attempts: Attempts, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").mkdir()
    checkpoint = open_checkpoint(tmp_path / "checkpoint.pt")
    assert isinstance(attempts.call("checkpoint", checkpoint.restore), OSError)
    assert isinstance(attempts.call("checkpoint", lambda: checkpoint.save(Progress(1))), OSError)


# Data sets


class Items:
    """A data set of given items, each made by a function."""

    def __init__(self, *makes: Callable[[], object]) -> None:
        self.makes = makes

    def __len__(self) -> int:
        return len(self.makes)

    def __getitem__(self, index: int) -> object:
        return self.makes[index]()


def failing(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


BROKEN = [
    *(failing(kind("broken")) for kind in (OSError, KeyError, RuntimeError, ValueError)),
    *(
        failing(kind())
        for kind in (ZeroDivisionError, AttributeError, UnicodeError, RecursionError)
    ),
    lambda: None,
    lambda: 7,
    lambda: "image.png",
    lambda: {},
    lambda: {"label": 3},
    lambda: [],
    lambda: np.zeros((0, 0, 3), np.uint8),
    lambda: np.zeros((4, 4, 7), np.uint8),
    lambda: np.full((4, 4, 3), np.nan),
    lambda: torch.full((3, 4, 4), 300.0),
    lambda: torch.zeros(2, 3, 4, 4),
    lambda: torch.zeros(3, 4, 4, dtype=torch.int64),
]


def test_items_that_cannot_be_read_are_left_out(attempts: Attempts) -> None:
    def good() -> object:
        return np.full((8, 8, 3), 9, np.uint8)

    for broken in BROKEN:
        error = attempts.call("data set", lambda b=broken: DatasetSource(Items(b), "mine"))
        assert isinstance(error, ImageError)
        for place in (0, 2):
            makes = [good] * 3
            makes[place] = broken
            source = attempts.call("data set", lambda m=makes: DatasetSource(Items(*m), "mine"))
            assert isinstance(source, DatasetSource)
            readable = ReadableImages(source)
            assert all(readable[number].shape == (8, 8, 3) for number in range(3))
            assert readable.left_out == {place}


def write_tar(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)


# Names of members, and how many of them are images of their own.
MEMBERS: list[tuple[list[str], int]] = [
    (["0.png"], 1),
    (["0.PNG", "1.Png"], 2),
    (["IMG.2024.05.png", "IMG.2024.06.png"], 2),
    (["photo.v2.png"], 1),
    (["0.png", "0.depth.png"], 1),
    (["a/0.png", "b/0.png", "a/b/c/0.png"], 3),
    (["./0.png", "./1.png"], 2),
    (["a.b/0.png"], 1),
    (["..png", "x.png"], 1),
    (["é ü.png", "图.png", "\u202ex.png", "a\nb.png"], 4),
    (["x" * 255 + "/" + "y" * 200 + ".png"], 1),
    (["0.png", "0.txt", "0.json", "0.cls"], 1),
    (["0.png", "._0.png", ".1.png"], 1),
    (["0.dng", "1.png"], 1),
    (["0.png", "0.webp"], 2),
    (["con.png", "a:b.png", "a\\b.png", "a?.png"], 4),
]


@pytest.mark.parametrize(("names", "count"), MEMBERS)
def test_no_member_of_a_shard_is_lost_in_silence(
    attempts: Attempts, names: list[str], count: int, tmp_path: Path
) -> None:
    path = tmp_path / "SHARD.TAR"
    write_tar(path, {name: encoded(number) for number, name in enumerate(names)})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        source = attempts.call("tar shard", lambda: open_source(tmp_path))
    assert isinstance(source, ShardSource)
    assert len(source) == count
    assert len(set(source.names)) == count
    assert all(source[number].shape == (20, 30, 3) for number in range(count))
    lost = [n for n in names if n.endswith((".png", ".dng")) and not Path(n).name.startswith(".")]
    assert (len(lost) > count) == bool(said)


def test_links_within_a_shard_are_images(attempts: Attempts, tmp_path: Path) -> None:
    links = {"a/1.png": "../0.png", "2.png": "0.png", "3.png": "/etc/passwd", "4.png": "../0.png"}
    write_tar(tmp_path / "a.tar", {"0.png": encoded()}, links)
    source = attempts.call("tar shard", lambda: open_source(tmp_path))
    assert isinstance(source, ShardSource)
    assert [name.split("/", 1)[1] for name in source.names] == ["0.png", "a/1.png", "2.png"]


def test_damaged_shards_and_packs_are_said(
    attempts: Attempts, images: Path, tmp_path: Path
) -> None:
    shard, packed = tmp_path / "a.tar", tmp_path / "a.pack"
    write_tar(shard, {f"{number}.png": encoded(number) for number in range(4)})
    pack(FolderSource(images), packed, progress=False)
    rng = np.random.default_rng(1)
    for path in (shard, packed):
        whole = path.read_bytes()
        for end in (*np.linspace(0, len(whole) - 1, 20).astype(int),):
            path.write_bytes(whole[:end])
            attempts.call(f"{path.suffix[1:]} file", lambda p=path: all_of(open_source(p)))
        for _ in range(20):
            start = int(rng.integers(len(whole) - 40))
            path.write_bytes(whole[:start] + rng.bytes(40) + whole[start + 40 :])
            attempts.call(f"{path.suffix[1:]} file", lambda p=path: all_of(open_source(p)))
    index: dict[str, object] = {"fingerprint": "x", "images": [["a", 8, 4, 4, "0" * 64, None]]}
    changes: list[dict[str, object]] = [
        {},
        {"images": []},
        {"fingerprint": 3, "images": []},
        {**index, "images": 7},
        {**index, "images": [["a"]]},
        {**index, "images": [["a", -1, 4, 4, "0", None]]},
        {**index, "images": [["a", 8, 10**12, 4, "0", None]]},
        {**index, "images": [["a", 8, 0, 0, "0", None]]},
        {**index, "images": [["a", 8, 4.5, 4, "0", None]]},
    ]
    for change in changes:
        text = json.dumps(change).encode()
        body = b"JSCCPAK1" + b"\0" * 48
        packed.write_bytes(body + text + len(body).to_bytes(8, "little") + b"JSCCPAK1")
        error = attempts.call("pack file", lambda: PackedSource(packed)[0])
        assert change == {"images": []} or isinstance(error, ImageError), change
    packed.write_bytes(body + b"[" * 100_000 + len(body).to_bytes(8, "little") + b"JSCCPAK1")
    assert isinstance(attempts.call("pack file", lambda: PackedSource(packed)), ImageError)


def all_of(source: object) -> list[object]:
    readable = ReadableImages(source)
    return [readable[number] for number in range(len(readable))]


def test_damaged_manifests_are_said(attempts: Attempts, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(FolderSource(images), path, 0.5, progress=False)
    first = path.read_text().splitlines()[0]
    entry = json.loads(first)
    lines = ["", "null", "7", "[]", "{}", "{", "\0", "[" * 50_000, first[:-3], '"text"']
    lines += [json.dumps({**entry, key: value}) for key in entry for value in (None, 7, [], {}, "")]
    lines += [json.dumps({k: v for k, v in entry.items() if k != key}) for key in entry]
    for line in lines:
        path.write_text(f"{line}\n{line}\n")
        error = attempts.call("manifest", lambda: read_manifest(path))
        assert isinstance(error, ImageError), line[:80]
    path.write_bytes(b"\xff\xfe\x00")
    assert isinstance(attempts.call("manifest", lambda: read_manifest(path)), ImageError)


def test_shards_beside_images_are_not_mixed_up(
    attempts: Attempts, images: Path, tmp_path: Path
) -> None:
    write_tar(images / "a.tar", {"0.png": encoded()})
    error = attempts.call("data set", lambda: open_source(images))
    assert "contains both tar shards" in str(error)
    (images / "a.tar").unlink()
    (images / "IMG_1.DNG").write_bytes(b"x")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        attempts.call("data set", lambda: open_source(images))
    assert "passed over 1 images of kinds that cannot be read (1 .dng)" in str(said[0].message)


# Latents


def image_latents() -> ImageLatents:
    return ImageLatents(
        torch.zeros(2, 4, 6, 6).half(),
        torch.zeros(1, 4, 6, 6).half(),
        torch.zeros(1),
        torch.zeros(1, dtype=torch.int64),
        ["a cat"],
    )


def test_damaged_latents_are_said(attempts: Attempts, tmp_path: Path) -> None:
    expected = {"images": 2}
    write_json(tmp_path / INDEX, expected)
    path = part_path(tmp_path, 0)
    write_part(path, [image_latents(), image_latents()])
    assert len(LatentFolder(tmp_path, expected)) == 2
    whole = path.read_bytes()
    contents = [b"", b"{}", b"\xff" * 100, to_safetensors({})]
    contents += [to_safetensors({}, {"captions": text}) for text in ("", "7", "[[]]", "{", "null")]
    contents += [whole[:end] for end in np.linspace(0, len(whole) - 1, 15).astype(int)]
    for content in contents:
        path.write_bytes(content)
        error = attempts.call("latents", lambda: LatentFolder(tmp_path, expected))
        assert isinstance(error, ValueError), content[:40]
        assert "remove it and run" in str(error)
    write_part(path, [])
    error = attempts.call("latents", lambda: LatentFolder(tmp_path, expected))
    assert "none of the images" in str(error)
    for text in ("", "[]", "{", '{"images": 3}', "[" * 50_000):
        (tmp_path / INDEX).write_text(text)
        error = attempts.call("latents", lambda: LatentFolder(tmp_path, expected))
        assert isinstance(error, ValueError)

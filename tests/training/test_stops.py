"""Training that is stopped, by a signal or by numbers that are not finite, and what it leaves."""

import errno
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from diffjscc.cli import app
from diffjscc.training import checkpoint as checkpoints
from diffjscc.training.codec_config import JSCCConfig
from diffjscc.training.config import load_config
from diffjscc.training.ema import EMA
from diffjscc.training.finite import NotFiniteError
from diffjscc.training.interruption import Interrupted, listening
from diffjscc.training.jscc import CodecLosses, train
from diffjscc.training.validation import CodecValidation
from processes import Started


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six smooth images."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.uint8)
        image = Image.fromarray(corners).resize((80, 64), Image.Resampling.BILINEAR)
        image.save(folder / f"{number}.png")
    return folder


@pytest.fixture
def config(images: Path, tmp_path: Path) -> Path:
    """A config file of eight iterations."""
    values = {
        "codec": {"class": "CompactJSCC", "widths": [8, 8], "encoder_blocks": [1, 1]}
        | {"decoder_blocks": [1, 1], "rate_channels": [4, 8]},
        "data": {"train": str(images), "crop": 32, "validation": str(images)}
        | {"validation_images": 1},
        "run": {"iterations": 8, "batch": 2, "checkpoint_every": 3, "log_every": 2}
        | {"validate_every": 4},
    }
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def invoke(config: Path, output: Path, *overrides: str) -> Result:
    words = ["train", "jscc", *overrides, "--config", str(config), "-o", str(output)]
    return CliRunner().invoke(app, words)


def state(output: Path) -> dict[str, object]:
    return torch.load(output / "checkpoint.pt", weights_only=True)


def assert_equal_runs(one: Path, other: Path) -> None:
    states = [state(folder) for folder in (one, other)]
    for part in ("model", "ema"):
        for name, value in states[0][part].items():
            assert torch.equal(states[1][part][name], value), name
    assert (one / "log.jsonl").read_text() == (other / "log.jsonl").read_text()


@contextmanager
def at_iteration(
    monkeypatch: pytest.MonkeyPatch, iteration: int, act: Callable[[], None]
) -> Iterator[None]:
    """Have something happen in an iteration, after its step."""
    update = EMA.update

    def acting(self: EMA, model: nn.Module, step: int) -> None:
        update(self, model, step)
        if step == iteration:
            act()

    with monkeypatch.context() as patch:
        patch.setattr(EMA, "update", acting)
        yield


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR1", 143), ("SIGINT", 130)])
def test_a_signal_saves_and_the_run_goes_on_exactly(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    before = signal.getsignal(signal.Signals[name])
    with at_iteration(monkeypatch, 2, lambda: signal.raise_signal(signal.Signals[name])):
        result = invoke(config, tmp_path / "run")
    assert result.exit_code == code
    assert "checkpoint.pt holds all 4 of 8 iterations so far; the same command goes on" in (
        result.stderr
    )
    assert state(tmp_path / "run")["step"] == 4  # the next one was on its way
    assert signal.getsignal(signal.Signals[name]) == before
    assert invoke(config, tmp_path / "run").exit_code == 0
    assert invoke(config, tmp_path / "whole").exit_code == 0
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_validation_that_a_signal_cut_short_is_made_up_for(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CodecValidation, "__call__", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert invoke(config, tmp_path / "run").exit_code == 143
    assert state(tmp_path / "run")["step"] == 4
    assert invoke(config, tmp_path / "run").exit_code == 0
    assert invoke(config, tmp_path / "whole").exit_code == 0
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_a_second_ctrl_c_stops_at_once() -> None:
    with listening() as interruption:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.asked == signal.SIGTERM
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGINT)
    assert caught.value.code == 130


class Spoilt:
    """Losses that are not finite in some iterations, and spoil a running mean as well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *iterations: int) -> None:
        self.calls, self.iterations = 0, iterations
        forward = CodecLosses.forward

        def spoiling(module: CodecLosses, *inputs: Tensor) -> tuple[dict[str, Tensor], Tensor]:
            losses, mse = forward(module, *inputs)
            if self.calls in self.iterations:
                losses["loss"] = losses["loss"] * torch.nan
            self.calls += 1
            return losses, mse

        monkeypatch.setattr(CodecLosses, "forward", spoiling)


def test_a_loss_that_is_not_finite_stops_with_words(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spoilt(monkeypatch, 4)
    result = invoke(config, tmp_path / "run")
    assert result.exit_code == 2
    for words in ("loss is nan in iteration 5", ".png", "learning_rate", "skip_nonfinite=10"):
        assert words in result.stderr, words
    assert state(tmp_path / "run")["step"] == 3
    assert all(value.isfinite().all() for value in state(tmp_path / "run")["model"].values())
    assert (tmp_path / "run" / "weights" / "codec").is_dir()  # for --init


def test_training_that_diverges_stops(config: Path, tmp_path: Path) -> None:
    huge = ["optimiser.learning_rate=1e3", "run.iterations=200", "run.validate_every=200"]
    result = invoke(config, tmp_path / "run", *huge, "optimiser.weight_decay=1e5")
    assert result.exit_code == 2
    assert "this is in iteration 2 (" in result.stderr
    assert "learning_rate" in result.stderr
    if (tmp_path / "run" / "checkpoint.pt").exists():
        assert all(value.isfinite().all() for value in state(tmp_path / "run")["model"].values())


def test_single_bad_batches_may_be_passed_over(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spoilt(monkeypatch, 1, 5)
    result = invoke(config, tmp_path / "run", "run.skip_nonfinite=2")
    assert result.exit_code == 0, result.output
    assert "passed over, 2 of at most 2" in result.stderr
    rows = [json.loads(row) for row in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["skipped batches"] for row in rows if "skipped batches" in row] == [1, 2]
    assert state(tmp_path / "run")["skipped"] == [1, 5]
    monkeypatch.undo()
    Spoilt(monkeypatch, 1, 5)
    assert invoke(config, tmp_path / "other", "run.skip_nonfinite=1").exit_code == 2
    assert state(tmp_path / "other")["step"] == 3


def test_weights_that_are_not_finite_are_not_saved(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_config(JSCCConfig, str(config))
    train(settings, tmp_path / "run")
    saved = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    update = EMA.update

    def spoilt(self: EMA, model: nn.Module, step: int) -> None:
        update(self, model, step)
        next(model.parameters()).data.fill_(torch.inf)

    monkeypatch.setattr(EMA, "update", spoilt)
    longer = load_config(JSCCConfig, str(config), ["run.iterations=9"])
    with pytest.raises(NotFiniteError, match="holds NaN or infinite values after iteration 9"):
        train(longer, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == saved


# Data


def test_damaged_images_are_left_out_the_same_way_after_resume(
    config: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(whole[: len(whole) // 2])
    (images / "0.png").write_bytes(b"")  # the first one to validate on
    result = invoke(config, tmp_path / "whole")
    assert result.exit_code == 0
    assert "2 of 6 images could not be read and were left out: 0.png, 3.png" in result.stderr
    with at_iteration(monkeypatch, 4, lambda: signal.raise_signal(signal.SIGTERM)):
        assert invoke(config, tmp_path / "run").exit_code == 143
    assert "2 of 6 images" in invoke(config, tmp_path / "run").stderr
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_a_folder_without_whole_images_is_said(config: Path, images: Path, tmp_path: Path) -> None:
    for path in images.iterdir():
        path.write_bytes(b"x")
    result = invoke(config, tmp_path / "run", "data.validation=null")
    assert result.exit_code == 2
    assert "nor could 6 other images be read" in result.stderr


def test_images_may_move_but_not_change(config: Path, images: Path, tmp_path: Path) -> None:
    assert invoke(config, tmp_path / "run", "run.iterations=4").exit_code == 0
    moved = tmp_path / "elsewhere"
    shutil.move(images, moved)
    place = [f"data.train={moved}", f"data.validation={moved}"]
    assert invoke(config, tmp_path / "run", *place, "run.iterations=6").exit_code == 0
    packed = f"data.packed={tmp_path / 'all.pack'}"
    assert invoke(config, tmp_path / "run", *place, packed, "run.iterations=8").exit_code == 0
    assert state(tmp_path / "run")["step"] == 8
    (moved / "1.png").unlink()
    result = invoke(config, tmp_path / "run", *place, "run.iterations=9")
    assert result.exit_code == 2
    assert "a run on other images" in result.stderr


# Files


@pytest.mark.parametrize("content", [b"", b"x" * 1000, b"PK\x03\x04" + b"\0" * 500])
def test_a_damaged_checkpoint_is_said(config: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(content)
    result = invoke(config, tmp_path / "run")
    assert result.exit_code == 2
    assert "checkpoint.pt is damaged" in result.stderr
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == content


def test_a_full_disk_leaves_the_checkpoint(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke(config, tmp_path / "run", "run.iterations=3").exit_code == 0
    saved = (tmp_path / "run" / "checkpoint.pt").read_bytes()

    class Full(checkpoints._Writer):
        def write(self, data: bytes) -> int:
            self.error = OSError(errno.ENOSPC, "No space left on device")
            raise self.error

    monkeypatch.setattr(checkpoints, "_Writer", Full)
    result = invoke(config, tmp_path / "run", "run.iterations=8")
    assert result.exit_code == 2
    assert "the disk is full" in result.stderr
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == saved
    assert not list((tmp_path / "run").glob(".checkpoint*"))


def test_a_limit_of_the_system_on_files_leaves_the_checkpoint(tmp_path: Path) -> None:
    code = """
import sys, torch
from pathlib import Path
from diffjscc.training import checkpoint
from diffjscc.data.files import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    checkpoint._save({"weights": torch.zeros(10**6)}, temporary)
"""
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"before")
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "OSError: [Errno 27]" in result.stderr  # not torch's "unexpected pos"
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


# Two runs


def test_two_trainings_do_not_share_a_folder(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    output.mkdir()
    program = (
        "import sys, time; from pathlib import Path\n"
        "from diffjscc.data.lock import FolderLock\n"
        "held = FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(output / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        refused = invoke(config, output)
        assert refused.exit_code == 2
        assert f"run is in use by process {process.pid} on " in refused.stderr
        assert [path.name for path in output.iterdir()] == [".lock"]
        process.kill()
    assert invoke(config, output).exit_code == 0
    assert not (output / ".lock").exists()


# Several processes

PARTS = """
import os
import signal

calls = 0


def _third() -> bool:
    global calls
    calls += 1
    return os.environ["RANK"] == "1" and calls == 3


def fails(reconstruction, original):
    if _third():
        raise ValueError("a part of my own has failed")
    return (reconstruction - original).abs().mean()


def signals(reconstruction, original):
    if _third():
        os.kill(os.getpid(), signal.SIGTERM)
    return (reconstruction - original).abs().mean()
"""


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(
    ("part", "words", "code"),
    [
        ("fails", "a part of my own has failed; this is in iteration 3", 2),
        ("signals", "stopped by SIGTERM: run/checkpoint.pt holds all 3 of 8 iterations", 143),
    ],
)
def test_one_process_stops_all_with_one_message(
    config: Path, tmp_path: Path, part: str, words: str, code: int
) -> None:
    (tmp_path / "stopping_parts.py").write_text(PARTS)
    loss = f"loss.extra=[{{factory: 'stopping_parts:{part}', weight: 0.1}}]"
    train = ["train", "jscc", "--config", config, "-o", "run", loss]
    started = Started(*train, processes=2, folder=tmp_path, said=tmp_path / "said")
    assert started.wait() == [code, code], started.said
    assert started.said.count(words) == 1, started.said
    assert (tmp_path / "run" / "checkpoint.pt").exists() == (part == "signals")

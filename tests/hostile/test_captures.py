"""Damaged captures: images or clear words, no traceback, nothing half written, bounded memory."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from attempts import Attempts, unfinished
from diffjscc.cli import app
from diffjscc.data.images import save_image
from diffjscc.radio.captures import Samples
from diffjscc.radio.front_end import clock_offset, white_noise
from diffjscc.radio.receiver import LostFrame, ReceivedFrame, receive_frames
from peak import PEAK, needs_peak

Complex = NDArray[np.complex64]
Damage = Callable[[Complex, np.random.Generator], Complex]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of a small image, as SigMF."""
    folder = tmp_path_factory.mktemp("recording")
    for number in range(2):
        ramp = torch.linspace(0, 1, 64).expand(3, 48, 64)
        save_image(ramp if number else ramp.flip(-1), folder / f"{number}.png")
    words = ["send", str(folder), "-o", str(folder / "frames.sigmf-data"), "--gap", "300"]
    assert CliRunner().invoke(app, words).exit_code == 0
    return folder / "frames.sigmf-data"


def cut(samples: Complex, random: np.random.Generator) -> Complex:
    begin, end = sorted(random.integers(0, len(samples), 2))
    return samples[begin:end]


def zeros(samples: Complex, random: np.random.Generator) -> Complex:
    begin, end = sorted(random.integers(0, len(samples), 2))
    samples[begin:end] = 0
    return samples


def clip(samples: Complex, random: np.random.Generator) -> Complex:
    limit = random.uniform(0.02, 0.3)
    real, imaginary = (np.clip(part, -limit, limit) for part in (samples.real, samples.imag))
    return (real + 1j * imaginary).astype(np.complex64)


def faults(samples: Complex, random: np.random.Generator) -> Complex:
    places = random.integers(0, len(samples), random.integers(1, 2000))
    samples[places] = random.choice([np.nan, np.inf, -np.inf, 1e30, 3e38])
    return samples


def wrong_rate(samples: Complex, random: np.random.Generator) -> Complex:
    step = random.choice([2, 3, -1])
    return samples[::step] if random.random() < 0.7 else np.repeat(samples, 2)


def overlapping(samples: Complex, random: np.random.Generator) -> Complex:
    return samples + np.roll(samples, random.integers(1, len(samples)))


def stray_clock(samples: Complex, random: np.random.Generator) -> Complex:
    return clock_offset(samples, random.uniform(-1000, 1000))


def strong_noise(samples: Complex, random: np.random.Generator) -> Complex:
    return white_noise(samples, random.uniform(0.02, 1), random)


def repeated_bytes(samples: Complex, random: np.random.Generator) -> Complex:
    content = bytearray(samples.tobytes())
    place = random.integers(0, len(content) - 2)
    del content[place : place + random.integers(1, 8)]
    return np.frombuffer(bytes(content[: len(content) // 8 * 8]), np.complex64)


def shuffled(samples: Complex, random: np.random.Generator) -> Complex:
    blocks = np.array_split(samples, 40)
    random.shuffle(blocks)
    return np.concatenate(blocks)


DAMAGES: list[Damage] = [
    cut, zeros, clip, faults, wrong_rate, overlapping, stray_clock, strong_noise, repeated_bytes,
    shuffled,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_samples(attempts: Attempts, recording: Path, damage: Damage) -> None:
    for seed in range(16):
        samples = damage(np.fromfile(recording, np.complex64), np.random.default_rng(seed))
        capture = Samples(samples)
        frames = attempts.call("captures", lambda capture=capture: list(receive_frames(capture)))
        assert isinstance(frames, list)
        for frame in frames:
            if isinstance(frame, LostFrame):
                assert frame.reason
            else:
                values, state = frame.received.values, frame.received.state
                assert torch.isfinite(torch.view_as_real(values)).all()
                assert torch.isfinite(torch.view_as_real(state.gain)).all()
                assert torch.isfinite(state.mean_snr_db).all()


def test_damaged_files_by_the_command(attempts: Attempts, recording: Path, tmp_path: Path) -> None:
    for seed in range(10):
        damage = DAMAGES[seed]
        samples = damage(np.fromfile(recording, np.complex64), np.random.default_rng(seed + 50))
        capture, out = tmp_path / f"{seed}.cf32", tmp_path / f"out{seed}"
        samples.tofile(capture)
        words = ("-o", out, "--refiner", "none", "--sample-rate", "1e6")
        result = attempts.command("captures", "receive", capture, *words)
        if result.exit_code < 2:
            rows = json.loads((out / "frames.json").read_text())
            listed = sorted(name for row in rows for name in row.get("files", ()))
            assert listed == sorted(path.name for path in out.glob("*.png"))
            assert all(row["status"] in ("received", "cut") or row["reason"] for row in rows)
        assert unfinished(tmp_path) == []


METADATA: list[tuple[str, object]] = [
    ("core:datatype", "cf64_be"),
    ("core:datatype", 7),
    ("core:sample_rate", 0),
    ("core:sample_rate", -1e6),
    ("core:sample_rate", "fast"),
    ("core:sample_rate", None),
    ("core:num_channels", 2),
    ("core:num_channels", "one"),
    ("core:version", None),
    ("core:dataset", "elsewhere.bin"),
    ("captures", None),
    ("captures", {"core:sample_start": 0}),
    ("captures", [{"core:sample_start": -5}]),
    ("annotations", [{"core:sample_start": 3}, {"core:sample_start": 1}]),
    ("annotations", "none"),
]
TEXTS = ["", "{", "[]", "null", '"text"', "{}", "[" * 100_000, "\ufffe", '{"global": NaN}']


def test_wrong_metadata(attempts: Attempts, recording: Path, tmp_path: Path) -> None:
    whole = json.loads(recording.with_suffix(".sigmf-meta").read_text())
    texts = list(TEXTS)
    for key, value in METADATA:
        changed = json.loads(json.dumps(whole))
        part = changed if key in changed else changed["global"]
        if value is None:
            part.pop(key, None)
        else:
            part[key] = value
        texts.append(json.dumps(changed))
    data, meta = tmp_path / "damaged.sigmf-data", tmp_path / "damaged.sigmf-meta"
    data.write_bytes(recording.read_bytes())
    for text in texts:
        meta.write_text(text, encoding="utf-8")
        words = ("receive", data, "-o", tmp_path / "out", "--refiner", "none")
        result = attempts.command("captures", *words)
        assert result.exit_code in (0, 2), text[:200]
    assert unfinished(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"1234567", b"\0" * 8, b"\xff" * 4096])
@pytest.mark.parametrize("suffix", [".cf32", ".ci16", ".iq"])
def test_files_that_are_no_captures(
    attempts: Attempts, tmp_path: Path, content: bytes, suffix: str
) -> None:
    capture = tmp_path / f"capture{suffix}"
    capture.write_bytes(content)
    words = ("-o", tmp_path / "out", "--sample-rate", "1e6")
    assert attempts.command("captures", "receive", capture, *words).exit_code in (1, 2)
    assert attempts.command("captures", "receive", tmp_path, *words).exit_code == 2
    assert attempts.command("captures", "receive", tmp_path / "no.cf32", *words).exit_code == 2


CHILD = (
    PEAK
    + """
import sys
from diffjscc.radio.captures import FileCapture
from diffjscc.radio.receiver import receive_frames
found = list(receive_frames(FileCapture(Path(sys.argv[1]), "cf32_le")))
print(len(found), peak())
"""
)


@needs_peak
def test_a_sparse_file_of_4_gb_is_read_within_1_gib(
    attempts: Attempts, recording: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "sparse.cf32"
    try:
        with capture.open("wb") as file:
            file.seek(4_000_000_000)
            file.write(recording.read_bytes())
    except OSError:
        pytest.skip("no room for a sparse file")

    def child() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CHILD, str(capture)],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30)),
        )

    done = attempts.call("captures", child)
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0, done.stderr[-2000:]
    frames, kilobytes = done.stdout.split()
    assert frames == "2"
    assert int(kilobytes) < 1 << 20


def test_received_frames_are_not_lost_beside_damage(recording: Path) -> None:
    """The second frame is found although the first one's header is gone."""
    samples = np.fromfile(recording, np.complex64)
    samples[900:4400] = 0
    lost, kept = receive_frames(Samples(samples))
    assert isinstance(lost, LostFrame)
    assert isinstance(kept, ReceivedFrame)

"""Images on the air by the command line: files, streams, other weights, transmitters, symbols."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from diffjscc import AWGN, DiffJSCC, psnr
from diffjscc.cli import app
from diffjscc.data.images import load_image
from diffjscc.pretrained.pretrained import find_weights
from diffjscc.radio.front_end import carrier_offset, white_noise
from processes import Started


def photo(path: Path, width: int = 96, height: int = 80) -> Path:
    """A smooth image with some structure."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / (7 + k) + y / (11 - k)) for k in range(3)]
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(path)
    return path


def run(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def sent(
    tmp_path: Path,
    *words: object,
    count: int = 1,
    name: str = "frame.cf32",
    rate: str = "1/16",
) -> Path:
    """Send images, and return the file of samples."""
    images = [photo(tmp_path / f"{i}.png", 96 + 16 * i) for i in range(count)]
    target = tmp_path / name
    result = run("send", *images, "-o", target, "--rate", rate, *words)
    assert result.exit_code == 0, result.output
    return target


def received(tmp_path: Path, capture: Path, *words: object) -> list[dict]:
    rate = () if "sigmf" in capture.suffix else ("--sample-rate", "1e6")
    run("receive", capture, "-o", tmp_path / "out", "--refiner", "none", *rate, *words)
    return json.loads((tmp_path / "out" / "frames.json").read_text())


def disturb(path: Path, snr_db: float, offset: float = 0.0, used: float = 52 / 64) -> None:
    """Add noise of Es/N0 to a file of samples, and turn them."""
    samples = np.fromfile(path, np.complex64)
    frame = samples[1000 + 512 : -1000]
    energy = np.mean(np.abs(frame) ** 2) / used  # of a cell
    noisy = white_noise(samples, energy * 10 ** (-snr_db / 10), np.random.default_rng(0))
    carrier_offset(noisy, offset).tofile(path)


@pytest.mark.parametrize("snr_db", [1.0, 7.0, 15.0])
def test_the_air_costs_little_against_a_link_with_known_channel(
    tmp_path: Path, snr_db: float
) -> None:
    capture = sent(tmp_path, "--snr", snr_db)
    disturb(capture, snr_db, 0.01)
    (row,) = received(tmp_path, capture)
    assert row["status"] == "received"
    assert row["snr_db"] == pytest.approx(snr_db, abs=0.5)
    assert row["carrier_offset_hz"] == pytest.approx(1e4, abs=15)
    original = load_image(tmp_path / "0.png")[None]
    found = load_image(tmp_path / "out" / row["files"][0])[None]
    scheme = DiffJSCC.from_pretrained("compact", "1/16", refiner=None, device="cpu")
    known = [
        float(
            psnr(
                scheme(original, AWGN(snr_db), torch.Generator().manual_seed(seed)).image, original
            )
        )
        for seed in range(4)
    ]
    assert float(psnr(found, original)) > np.mean(known) - 0.6


@pytest.mark.parametrize("waveform", ["ofdm-64", "ofdm-1024", "single-carrier"])
def test_sigmf_of_either_type(tmp_path: Path, waveform: str) -> None:
    for datatype in ("cf32_le", "ci16_le"):
        words = ("--waveform", waveform, "--datatype", datatype, "--center-frequency", "2.4e9")
        capture = sent(tmp_path, *words, count=2, name="frame.sigmf-data")
        meta = json.loads(capture.with_suffix(".sigmf-meta").read_text())
        assert meta["global"]["core:datatype"] == datatype
        assert meta["captures"][0]["core:frequency"] == 2.4e9
        assert meta["annotations"][0]["core:sample_start"] == 1000
        assert len(meta["annotations"]) == 2
        rows = received(tmp_path, capture.with_suffix(".sigmf-meta"))
        assert [row["header"]["number"] for row in rows] == [0, 1]
        assert [row["start"] for row in rows] == [
            note["core:sample_start"] for note in meta["annotations"]
        ]
        assert all(row["snr_db"] > 25 and row["waveform"] == waveform for row in rows)
        for row, width in zip(rows, (96, 112), strict=True):
            assert Image.open(tmp_path / "out" / row["files"][0]).size == (width, 80)


def test_the_record_counts_every_use(tmp_path: Path) -> None:
    sent(tmp_path, "--json", tmp_path / "sent.json", "--papr-limit", 6)
    (row,) = json.loads((tmp_path / "sent.json").read_text())
    uses = row["uses_by_kind"]
    assert set(uses) == {
        "preamble",
        "header",
        "pilots",
        "cyclic prefix",
        "guard",
        "image",
        "padding",
    }
    assert sum(uses.values()) == row["samples"]
    assert uses["image"] == 96 * 80 // 16
    assert row["payload_rate"] == pytest.approx(1 / 16)
    assert row["rate_on_air"] == pytest.approx(row["samples"] / (96 * 80))


def test_frames_of_other_weights_are_named_and_skipped(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(find_weights("compact").folder, other)
    config = json.loads((other / "codec" / "config.json").read_text())
    config["files"] = {part: f"{part}-0000.safetensors" for part in config["files"]}
    for part, name in json.loads(
        (find_weights("compact").folder / "codec" / "config.json").read_text()
    )["files"].items():
        shutil.copy(other / "codec" / name, other / "codec" / config["files"][part])
    (other / "codec" / "config.json").write_text(json.dumps(config))
    foreign = sent(tmp_path, "--weights", other, name="foreign.cf32")
    own = sent(tmp_path, name="own.cf32")
    both = tmp_path / "both.cf32"
    both.write_bytes(foreign.read_bytes() + own.read_bytes())
    skipped, kept = received(tmp_path, both)
    assert skipped["status"] == "skipped"
    assert skipped["header"]["weights"] in skipped["reason"]
    assert kept["status"] == "received"
    rows = received(tmp_path, both, "--weights", other, "--weights", "compact")
    assert [row["status"] for row in rows] == ["received", "received"]


def test_a_transmitter_needs_no_receivers_weights(tmp_path: Path) -> None:
    source, encoder = find_weights("compact").folder, tmp_path / "encoder"
    (encoder / "codec").mkdir(parents=True)
    shutil.copy(source / "codec" / "config.json", encoder / "codec")
    for file in (source / "codec").glob("encoder*"):
        shutil.copy(file, encoder / "codec")
    capture = sent(tmp_path, "--weights", encoder)
    (row,) = received(tmp_path, capture)
    assert row["status"] == "received"


def test_a_digital_link_on_the_air(tmp_path: Path) -> None:
    words = ("--scheme", "jpeg-ldpc", "--snr", 12, "--downsample")
    capture = sent(tmp_path, *words)
    disturb(capture, 13)
    (row,) = received(tmp_path, capture)
    assert row["status"] == "received"
    assert not row["outage"]
    original, found = (
        load_image(path)[None] for path in (tmp_path / "0.png", tmp_path / "out" / row["files"][0])
    )
    assert float(psnr(found, original)) > 12
    words = ("--scheme", "jpeg-ldpc", "--mcs", "qpsk 1/2", "--quality", 1)
    fixed = sent(tmp_path, *words, rate="1/2")
    (row,) = received(tmp_path, fixed)
    assert not row["outage"]


def test_a_cut_frame_gives_an_image(tmp_path: Path) -> None:
    capture = sent(tmp_path)
    samples = np.fromfile(capture, np.complex64)
    samples[: len(samples) - 1000 - 600].tofile(capture)
    (row,) = received(tmp_path, capture)
    assert row["status"] == "cut"
    assert 0.1 < row["present"] < 0.9
    assert row["files"]


def test_symbols_of_ones_own_chain(tmp_path: Path) -> None:
    images = [photo(tmp_path / f"{i}.png", 64 + 16 * i) for i in range(2)]
    for name in ("payload.npy", "payload.sigmf-data"):
        target = tmp_path / name
        assert run("symbols", "export", *images, "-o", target, "--rate", "1/16").exit_code == 0
        if target.suffix == ".npy":
            values = np.load(target)
            assert np.mean(np.abs(values) ** 2) == pytest.approx(1, abs=1e-3)
            np.save(target, 0.5j * values)
            np.save(tmp_path / "gain.npy", np.full(len(values), 0.5j))
        extra = ("--gain", tmp_path / "gain.npy") if target.suffix == ".npy" else ()
        side = target.with_suffix(".json")
        words = ("--side", side, "-o", tmp_path / "out", "--snr", 20, "--refiner", "none", *extra)
        result = run("symbols", "import", target, *words)
        assert result.exit_code == 0, result.output
        for number, image in enumerate(images):
            found = load_image(tmp_path / "out" / f"payload-000{number}.png")[None]
            assert float(psnr(found, load_image(image)[None])) > 18


def test_a_stream_between_two_ends(tmp_path: Path) -> None:
    pytest.importorskip("zmq")
    image = photo(tmp_path / "0.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # In a process of its own: commands of one process share its output.
    words = ("send", image, "-o", f"zmq://*:{port}", "--rate", "1/16")
    sender = Started(*words, said=tmp_path / "said")
    result = run(
        "receive", f"zmq://127.0.0.1:{port}", "-o", tmp_path / "out", "--refiner", "none",
        "--seconds", 60,
    )  # fmt: skip
    assert sender.wait() == [0], sender.said
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert row["status"] == "received"


def test_a_figure_of_the_link(tmp_path: Path) -> None:
    capture = sent(tmp_path)
    received(tmp_path, capture, "--plot", tmp_path / "link.png")
    assert Image.open(tmp_path / "link.png").size == (1320, 1020)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scheme", "bpg-capacity"), "cannot be sent as a frame"),
        (("--scheme", "ddnm"), "cannot be sent as a frame"),
        (("--mcs", "qpsk 1/2"), "for digital links"),
        (("--snr", "nan"), "must be finite"),
        (("--rate", "1/7"), "1/7 is not one of"),
        (("--sample-rate", "0"), "must be above 0"),
        (("--papr-limit", "-3"), "between 0 and 60 dB"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    image = photo(tmp_path / "0.png")
    result = run("send", image, "-o", tmp_path / "frame.cf32", *words)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "frame.cf32").exists()

"""Computations of the demo page, without a server."""

import io
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diffjscc.cli import app
from diffjscc.data.images import load_stored, save_image, to_levels
from diffjscc.evaluation.images import SourceImage
from diffjscc.metrics.fidelity import psnr
from diffjscc.web.engine import Engine
from diffjscc.web.settings import DemoSettings
from diffjscc.web.uploads import example_path, read_upload

QUICK = DemoSettings(steps=6)


@pytest.fixture(scope="module")
def engine() -> Engine:
    pytest.importorskip("gradio", reason="the page needs the extra [demo]")
    return Engine("compact", "cpu")


@pytest.fixture(scope="module")
def source() -> SourceImage:
    """A small part of an example."""
    source, _ = read_upload(example_path("chelsea"))
    return SourceImage("part.png", source.stored[:, 64:192, 96:256])


def test_an_image_is_encoded_once(
    engine: Engine, source: SourceImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = engine._codec.codec
    calls, encode = [], codec.encode
    monkeypatch.setattr(
        codec, "encode", lambda images, *more: calls.append(len(images)) or encode(images, *more)
    )
    delivery, received = engine.codec(source, QUICK)
    assert calls == [1]
    assert received is not None
    assert received.channel_uses == delivery.record.channel_uses
    decoded = engine._codec.at_rate(QUICK.rate).attempt(received)[0]
    assert torch.equal(to_levels(decoded[0]), delivery.final_levels)


def test_the_image_comes_about_in_previews(engine: Engine, source: SourceImage) -> None:
    told: list[tuple[int, int]] = []
    previews: list[torch.Tensor] = []

    def progress(done: int, total: int, preview: torch.Tensor | None = None) -> None:
        told.append((done, total))
        if preview is not None:
            previews.append(preview)

    final = engine.receiver(source, DemoSettings(steps=8), progress).final_levels
    total = told[-1][1]
    assert told == [(done, total) for done in range(1, total + 1)]
    assert len(previews) == (total - 1) // 2
    assert all(image.dtype == torch.uint8 and image.shape == final.shape for image in previews)
    levels = [float(psnr(image[None] / 255, final[None] / 255)[0]) for image in previews]
    assert levels[-1] > levels[0]
    assert levels[-1] > 20


def test_the_command_gives_the_same_images(
    engine: Engine, source: SourceImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_image(source.stored, tmp_path / "original.png")
    settings = DemoSettings(steps=3, snr=7, rate="1/16")
    words = shlex.split(settings.command("original.png"))
    assert words[0] == "diffjscc"
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, result.output
    deliveries = {
        "diffjscc": engine.receiver(source, settings, lambda *_: None),
        "bpg-ldpc-downsampled": engine.rival(source, settings),
    }
    for name, delivery in deliveries.items():
        written = load_stored(tmp_path / "out" / f"original-{name}.png")
        assert torch.equal(written, delivery.final_levels)


def test_many_steps_have_few_previews(engine: Engine, source: SourceImage) -> None:
    previews = []
    settings = DemoSettings(steps=30)
    engine.receiver(source, settings, lambda d, t, preview=None: previews.append(preview))
    assert 4 <= sum(preview is not None for preview in previews) <= 8


def test_an_outage_of_the_digital_link_is_shown_as_one(engine: Engine, source: SourceImage) -> None:
    """A deep fade that the transmitter does not know of leaves nothing to decode."""
    from diffjscc.web.handlers import Handlers  # noqa: PLC0415 - an extra
    from diffjscc.web.tables import metrics_table  # noqa: PLC0415

    handlers = Handlers(engine)
    for seed in range(20):
        settings = DemoSettings(snr=7, rate="1/16", channel="rayleigh", seed=seed)
        shown = handlers.rival(source, settings)
        if shown.record is not None and shown.record.outage:
            break
    else:
        pytest.fail("20 fades without an outage")
    assert shown.caption == "digital link (bpg-ldpc): outage"
    assert shown.caption in metrics_table([shown], engine.infos, 1000)
    assert shown.png is not None
    placeholder = np.asarray(Image.open(io.BytesIO(shown.png)))
    assert len(np.unique(placeholder.reshape(-1, 3), axis=0)) == 1
    known = handlers.rival(source, DemoSettings(snr=-10, rate="1/128"))
    assert known.png is None
    assert "cannot send it" in known.caption

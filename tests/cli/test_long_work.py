"""Long work of `transmit`: what is finished when it is interrupted, and the bar of its parts."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from diffjscc.cli import app
from diffjscc.cli.terminal import show_work
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.progress import report, reported
from diffjscc.refiners.diffusion import ControlledDiffusion


@pytest.mark.parametrize("stage", ["receiver", "metrics"])
def test_images_are_written_before_what_comes_next(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if stage == "receiver":
        monkeypatch.setattr(ControlledDiffusion, "refine_to_levels", interrupted)
    else:
        monkeypatch.setattr(MetricEvaluator, "__call__", interrupted)
    photo = tmp_path / "photo.png"
    Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 50).convert("RGB").save(photo)
    output = tmp_path / "out"
    words = ["transmit", str(photo), "--rate", "1/16", "--steps", "1", "-o", str(output)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 130, result.output
    written = {path.name for path in output.iterdir()}
    assert written == {"photo-initial.png"} | ({"photo.png"} if stage == "metrics" else set())
    for name in written:
        with Image.open(output / name) as image:
            assert image.size == (64, 48)
            image.load()


def test_the_bar_shows_each_work_by_its_name_and_goes_with_its_end() -> None:
    with Progress(console=Console(quiet=True)) as progress, show_work(progress):
        (bar,) = progress.tasks
        assert not bar.visible
        parts = reported(torch.arange(4).tolist(), "codec")
        next(parts)
        next(parts)
        assert (bar.description, bar.completed, bar.total, bar.visible) == ("codec", 1, 4, True)
        list(parts)
        assert not bar.visible
        report("writing", 0, 0)
        assert (bar.description, bar.total, bar.visible) == ("writing", None, True)
    report("later", 0, 1)  # nobody listens any more
    assert bar.description == "writing"

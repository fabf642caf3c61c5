"""Answers of the page to what visitors do."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from html import escape
from pathlib import Path
from typing import NoReturn, TypeVar

import gradio as gr
import numpy as np

from diffjscc.configuration import check
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.transmission import Delivery
from diffjscc.evaluation.uncertainty import colours
from diffjscc.scheme import InfeasibleError
from diffjscc.web import jobs
from diffjscc.web.engine import Engine
from diffjscc.web.figures import constellation, quality_over_snr
from diffjscc.web.settings import DemoSettings
from diffjscc.web.tables import Pixels, Shown, metrics_table, pixels
from diffjscc.web.uploads import example_path, read_upload

SETTLING = 0.3  # seconds that a slider rests before the receiver starts
ORIGINAL, INITIAL, FINAL, RIVAL = "original", "codec", "receiver", "digital link"
NAMES = (ORIGINAL, INITIAL, FINAL, RIVAL)

T = TypeVar("T")


class Handlers:
    """Event handlers; each takes the values of components and gives those of others."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def settings(self, values: Mapping[str, object]) -> DemoSettings:
        """Check the settings that a visitor chose."""
        settings = check(DemoSettings, values, "settings")
        if settings.rate not in self.engine.rates:
            raise ValueError(f"rate {settings.rate} is not one of {', '.join(self.engine.rates)}")
        return settings

    def upload(self, path: str | None) -> tuple[SourceImage | None, str]:
        """Take a visitor's file; gives the image and what was done to it."""
        if path is None:
            return None, ""
        try:
            source, note = read_upload(Path(path))
        except (ValueError, OSError) as error:
            refuse(error, path)
        return source, escape(note)

    def example(self, name: str) -> tuple[SourceImage, str]:
        """Take an example image."""
        source, note = read_upload(example_path(name))
        return source, f"example: {name}, {note}"

    def codec(self, source: SourceImage, settings: DemoSettings) -> tuple[Shown, Pixels]:
        """Transmit by the codec alone; also plots the constellation."""
        shown = delivered(INITIAL, self.engine.codec(source, settings))
        return shown, constellation(self.engine.received(source, settings))

    def receiver(
        self, source: SourceImage, settings: DemoSettings
    ) -> Generator[tuple[Shown, str], None, None]:
        """Refine by diffusion; gives the state of the work, then the image."""
        if not settings.refine:
            yield Shown(FINAL, words="switched off"), ""
            return
        yield Shown(FINAL, words="waiting"), bar("starting", 0, 1)
        time.sleep(SETTLING)
        work = jobs.run(lambda progress: self.engine.receiver(source, settings, progress))
        for message in work:
            if isinstance(message, jobs.Done):
                yield delivered(FINAL, message.value), ""
            else:
                words = f"step {message.done} of {message.total}"
                yield Shown(FINAL, words=words), bar(words, message.done, message.total)

    def rival(self, source: SourceImage | None, settings: DemoSettings) -> Shown:
        """Transmit by the digital link."""
        if source is None or settings.rival == "none":
            return Shown(RIVAL, words="switched off")
        name = f"{RIVAL} ({settings.rival})"
        try:
            return delivered(name, self.engine.rival(source, settings))
        except InfeasibleError as error:
            return Shown(name, words=f"cannot send it: {error}")

    def uncertainty(
        self, source: SourceImage | None, settings: DemoSettings
    ) -> Generator[tuple[Pixels | None, str], None, None]:
        """Map where sampled images disagree."""
        chosen = _chosen(source)
        return _drawn(
            lambda progress: self.engine.uncertainty(chosen, settings, progress),
            lambda spread: pixels(colours(spread)),
            "sampling",
        )

    def curves(
        self, source: SourceImage | None, settings: DemoSettings
    ) -> Generator[tuple[Pixels | None, str], None, None]:
        """Plot quality over SNR for the image."""
        chosen = _chosen(source)
        return _drawn(
            lambda progress: self.engine.curves(chosen, settings, progress),
            lambda curves: quality_over_snr(curves, settings.snr),
            "transmitting",
        )

    def table(self, bandwidth: float, *shown: Shown | None) -> str:
        """Write the table of all that was sent."""
        names = (INITIAL, FINAL, RIVAL)
        items = [item or Shown(name) for name, item in zip(names, shown, strict=True)]
        return metrics_table(items, self.engine.infos, bandwidth)


def _chosen(source: SourceImage | None) -> SourceImage:
    """Return the image, or raise ValueError while there is none."""
    if source is None:
        raise ValueError("choose an image first")
    return source


def _drawn(
    work: Callable[[jobs.Progress], T], draw: Callable[[T], Pixels], words: str
) -> Generator[tuple[Pixels | None, str], None, None]:
    """Give the state of some work, and then its result as an image."""
    for message in jobs.run(work):
        if isinstance(message, jobs.Done):
            yield draw(message.value), ""
        else:
            yield None, bar(words, message.done, message.total)


def original(source: SourceImage | None) -> Shown | None:
    """Show the original."""
    return None if source is None else Shown(ORIGINAL, pixels(source.stored))


def compared(
    left: str, right: str, shown: Mapping[str, Shown | None]
) -> tuple[Pixels, Pixels] | None:
    """Choose the two images of the before/after slider; an image that is missing is grey."""
    images = [item.image if (item := shown[name]) is not None else None for name in (left, right)]
    size = next((image.shape for image in images if image is not None), None)
    if size is None:
        return None
    first, second = (np.full(size, 230, np.uint8) if image is None else image for image in images)
    return first, second


def delivered(name: str, delivery: Delivery) -> Shown:
    """Show what a link delivered."""
    return Shown(name, pixels(delivery.final_levels), delivery.record)


def bar(words: str, done: int, total: int) -> str:
    """Draw a progress bar as HTML."""
    return f'<progress value="{done}" max="{total}"></progress> {escape(words)}'


def guarded(function: Callable[[], T]) -> T:
    """Call, and say errors in words on the page."""
    try:
        return function()
    except (ValueError, OSError, MemoryError) as error:
        refuse(error)


def refuse(error: BaseException, path: str | None = None) -> NoReturn:
    """Say an error on the page, without the server's folders and without HTML of others."""
    words = str(error) or type(error).__name__
    if path is not None:
        words = words.replace(f"{path}: ", "").replace(str(Path(path).parent), "")
    raise gr.Error(escape(words), print_exception=False)

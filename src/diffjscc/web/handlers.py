"""Answers of the page to what visitors do."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from html import escape
from pathlib import Path
from typing import NoReturn, TypeVar

import gradio as gr
from torch import Tensor

from diffjscc.configuration import check
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.transmission import Delivery
from diffjscc.evaluation.uncertainty import colours
from diffjscc.protocols import InfeasibleError
from diffjscc.web import jobs
from diffjscc.web.engine import Engine
from diffjscc.web.figures import constellation, quality_over_snr
from diffjscc.web.settings import DemoSettings
from diffjscc.web.shown import Pixels, Shown, as_png
from diffjscc.web.uploads import example_path, read_upload

SETTLING = 0.3  # seconds that a slider rests before the receiver starts
ORIGINAL, INITIAL, FINAL, RIVAL = "original", "codec", "receiver", "digital link"
NAMES = (ORIGINAL, INITIAL, FINAL, RIVAL)

T = TypeVar("T")


class Handlers:
    """Event handlers; each takes the values of components and gives those of others."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.jobs = jobs.Jobs()

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

    def codec(self, source: SourceImage, settings: DemoSettings) -> tuple[Shown, bytes | None]:
        """Transmit by the codec alone; also plots the constellation."""
        delivery, received = self.engine.codec(source, settings)
        plot = None if received is None else as_png(constellation(received))
        return delivered(INITIAL, delivery), plot

    def receiver(
        self, source: SourceImage, settings: DemoSettings
    ) -> Generator[tuple[Shown | None, str], None, None]:
        """Refine by diffusion; gives previews where there are new ones, and the state of the work.

        The image comes last.
        """
        if not settings.refine:
            yield Shown(FINAL, words="switched off"), ""
            return
        yield Shown(FINAL, words="waiting"), bar("starting", 0, 1)
        time.sleep(SETTLING)
        work = self.jobs.run(lambda progress: self.engine.receiver(source, settings, progress))
        try:
            for message in work:
                if isinstance(message, jobs.Done):
                    yield delivered(FINAL, message.value), ""
                else:
                    words = f"step {message.done} of {message.total}"
                    seen = None if message.preview is None else as_png(message.preview)
                    preview = None if seen is None else Shown(FINAL, seen, words=words)
                    yield preview, bar(words, message.done, message.total)
        except jobs.TimeLimitError as error:
            yield Shown(FINAL, words=f"stopped: {error}"), ""

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
    ) -> Generator[tuple[bytes | None, str], None, None]:
        """Map where sampled images disagree."""
        chosen = _chosen(source)
        return self._drawn(
            lambda progress: self.engine.uncertainty(chosen, settings, progress),
            colours,
            "sampling",
        )

    def curves(
        self, source: SourceImage | None, settings: DemoSettings
    ) -> Generator[tuple[bytes | None, str], None, None]:
        """Plot quality over SNR for the image."""
        chosen = _chosen(source)
        return self._drawn(
            lambda progress: self.engine.curves(chosen, settings, progress),
            lambda curves: quality_over_snr(curves, settings.snr),
            "transmitting",
        )

    def _drawn(
        self, work: Callable[[jobs.Progress], T], draw: Callable[[T], Pixels | Tensor], words: str
    ) -> Generator[tuple[bytes | None, str], None, None]:
        """Give the state of some work, and then its result as PNG."""
        for message in self.jobs.run(work):
            if isinstance(message, jobs.Done):
                yield as_png(draw(message.value)), ""
            else:
                yield None, bar(words, message.done, message.total)


def _chosen(source: SourceImage | None) -> SourceImage:
    """Return the image, or raise ValueError while there is none."""
    if source is None:
        raise ValueError("choose an image first")
    return source


def original(source: SourceImage | None) -> Shown | None:
    """Show the original."""
    return None if source is None else Shown(ORIGINAL, as_png(source.stored))


def delivered(name: str, delivery: Delivery) -> Shown:
    """Show what a link delivered."""
    return Shown(name, as_png(delivery.final_levels), delivery.record)


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

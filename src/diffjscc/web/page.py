"""The page: its two columns, and the events that connect them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from diffjscc.evaluation.images import SourceImage
from diffjscc.web.controls import Controls
from diffjscc.web.engine import Engine
from diffjscc.web.handlers import FINAL, INITIAL, ORIGINAL, RIVAL, Handlers, guarded, original
from diffjscc.web.results import PRIVATE, Results
from diffjscc.web.settings import DemoSettings
from diffjscc.web.shown import Files, Shown
from diffjscc.web.style import ADDRESS, INTRODUCTION, TITLE
from diffjscc.web.uploads import example_names
from diffjscc.web.visits import Visits

FIRST_EXAMPLE = "coffee"
SENT_NAME = "original.png"  # of the image in the command, as browsers save it


class Page:
    """The page of an engine; `blocks` is what gradio serves.

    Args:
        engine: computes.
        folder: for images; gradio serves it and deletes old files in it.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._handlers = Handlers(engine)
        self._visits = Visits()
        with gr.Blocks(
            title=TITLE, analytics_enabled=False, delete_cache=(300, 900), fill_width=True
        ) as self.blocks:
            self._source = gr.State(None)
            self._number = gr.State(0)  # of the request that is shown, see `Visits`
            gr.Markdown(INTRODUCTION)
            with gr.Row():
                with gr.Column(scale=1, min_width=300):
                    self._controls = Controls(engine)
                with gr.Column(scale=3, min_width=320):
                    self._results = Results(Files(folder), engine.infos)
            self._choose()
            self._send()
            self._results.redraw(self._controls.bandwidth)

    def close(self) -> None:
        """End all work."""
        self._handlers.jobs.close()

    def _choose(self) -> None:
        """Take files, examples, and the settings in the page's address."""
        controls = self._controls
        image = [self._source, controls.note, self._results.shown[ORIGINAL]]
        # The example is named in the same answer: the source's change reads it at once.
        named = [*image, controls.example]
        controls.upload.upload(self._upload, controls.upload, named, **PRIVATE)
        controls.gallery.select(self._pick, None, named, **PRIVATE)
        self.blocks.load(self._restore, None, [*image, *controls.inputs], **PRIVATE)

    def _send(self) -> None:
        """Send the image whenever it or a setting changes, and further work on request."""
        results = self._results
        initial, final, rival = (results.shown[name] for name in (INITIAL, FINAL, RIVAL))
        inputs = [self._source, *self._controls.inputs]
        codec = gr.on(
            [self._source.change, *self._controls.changes],
            self._codec,
            inputs,
            [
                initial,
                results.images[INITIAL],
                results.constellation,
                results.command,
                results.query,
                final,
                rival,
                self._number,
            ],
            trigger_mode="always_last",
            concurrency_id="codec",
            concurrency_limit=2,
            show_progress="minimal",
            show_progress_on=results.status,
            **PRIVATE,
        )
        codec.success(None, results.query, None, js=ADDRESS)
        receiver = codec.success(
            self._receiver,
            [self._number, *inputs],
            [final, results.status],
            trigger_mode="multiple",
            concurrency_id="sampling",
            concurrency_limit=1,
            show_progress="full",
            show_progress_on=results.status,
            **PRIVATE,
        )
        digital = codec.success(
            self._digital,
            [self._number, *inputs],
            rival,
            trigger_mode="multiple",
            concurrency_id="digital",
            concurrency_limit=1,
            show_progress="hidden",
            **PRIVATE,
        )
        slow: dict[str, Any] = {"concurrency_id": "sampling", **PRIVATE}
        plots = [
            results.curve_button.click(
                self._curves, inputs, [results.curve, results.curve_status], **slow
            ),
            results.map_button.click(
                self._uncertainty, inputs, [results.map, results.map_status], **slow
            ),
        ]
        results.stop.click(
            self._cancel,
            final,
            [final, results.status, results.curve_status, results.map_status],
            cancels=[receiver, digital, *plots],
            queue=False,
            **PRIVATE,
        )

    def _read(self, *values: object) -> DemoSettings:
        return self._handlers.settings(self._controls.named(*values))

    def _codec(
        self, request: gr.Request, source: SourceImage | None, *values: object
    ) -> tuple[object, ...]:
        if source is None:
            return (gr.skip(),) * 8
        settings = guarded(lambda: self._read(*values))
        number = self._visits.renew(str(request.session_hash))
        shown, symbols = guarded(lambda: self._handlers.codec(source, settings))
        return (
            shown,
            self._results.panel(INITIAL, shown),
            self._results.file(symbols, "symbols"),
            settings.command(SENT_NAME),
            settings.query,
            None,
            None,
            number,
        )

    def _receiver(
        self, request: gr.Request, number: int, source: SourceImage | None, *values: object
    ) -> Iterator[tuple[object, str]]:
        if source is None:
            return
        settings = guarded(lambda: self._read(*values))
        for shown, status in _steps(lambda: self._handlers.receiver(source, settings)):
            if not self._visits.is_latest(str(request.session_hash), number):
                return  # closes the steps, and so ends the sampling
            yield gr.skip() if shown is None else shown, status

    def _digital(
        self, request: gr.Request, number: int, source: SourceImage | None, *values: object
    ) -> object:
        if not self._visits.is_latest(str(request.session_hash), number):
            return gr.skip()
        return guarded(lambda: self._handlers.rival(source, self._read(*values)))

    def _curves(self, source: SourceImage | None, *values: object) -> Iterator[tuple[Any, str]]:
        for png, status in _steps(lambda: self._handlers.curves(source, self._read(*values))):
            yield self._results.file(png, "curve"), status

    def _uncertainty(
        self, source: SourceImage | None, *values: object
    ) -> Iterator[tuple[Any, str]]:
        for png, status in _steps(lambda: self._handlers.uncertainty(source, self._read(*values))):
            yield self._results.file(png, "map"), status

    def _cancel(
        self, request: gr.Request, final: Shown | None
    ) -> tuple[Shown | None, str, str, str]:
        self._visits.renew(str(request.session_hash))
        done = final is not None and final.record is not None
        return final if done else Shown(FINAL, words="cancelled"), "cancelled", "", ""

    def _upload(self, path: str | None) -> tuple[SourceImage | None, str, Shown | None, str]:
        source, note = self._handlers.upload(path)
        return source, note, original(source), ""

    def _pick(self, event: gr.SelectData) -> tuple[SourceImage, str, Shown | None, str]:
        name = example_names()[int(event.index)]
        source, note = self._handlers.example(name)
        return source, note, original(source), name

    def _restore(self, request: gr.Request) -> list[object]:
        """Set the components by the page's address; without an image, take an example."""

        def read() -> tuple[DemoSettings, SourceImage, str]:
            settings = DemoSettings.from_query(dict(request.query_params))
            name = settings.example or FIRST_EXAMPLE
            source, note = self._handlers.example(name)
            return settings.model_copy(update={"example": name}), source, note

        settings, source, note = guarded(read)
        return [source, note, original(source), *self._controls.values(settings)]


def _steps(make: Callable[[], Generator[Any, None, None]]) -> Generator[Any, None, None]:
    """Give what an iterator gives; its errors are said on the page."""
    iterator = guarded(make)
    end = object()
    try:
        while (item := guarded(lambda: next(iterator, end))) is not end:
            yield item
    finally:
        iterator.close()

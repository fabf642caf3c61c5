"""Layout of the page, and the event handlers behind its components."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, get_args

import gradio as gr

from diffjscc.evaluation.images import SourceImage
from diffjscc.web.engine import Engine
from diffjscc.web.handlers import (
    FINAL,
    INITIAL,
    NAMES,
    ORIGINAL,
    RIVAL,
    Handlers,
    compared,
    guarded,
    original,
)
from diffjscc.web.settings import DemoSettings, FadingName, Rival
from diffjscc.web.tables import Shown
from diffjscc.web.uploads import LARGEST_FILE, LONGEST_SIDE, example_names, example_path
from diffjscc.web.visits import Visits

TITLE = "DiffJSCC: images over noisy channels"
INTRODUCTION = """
# An image, a few thousand symbols, a noisy channel, an image

The **codec** turns the image into complex symbols, the channel adds noise, the codec decodes; the
**diffusion receiver** refines what came out. The **digital link** sends the same image with the
same number of symbols at the same SNR, with fewer pixels where that helps.
"""
CSS = """
.gradio-container { max-width: 1500px !important; }
table.metrics { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
table.metrics th, table.metrics td { padding: .3em .6em; text-align: right;
  border-bottom: 1px solid var(--border-color-primary); }
table.metrics tbody th { text-align: left; font-weight: 600; }
.scroll { overflow-x: auto; }
p.note { color: var(--body-text-color-subdued); font-size: .85em; }
progress { width: 12em; max-width: 60%; vertical-align: middle; }
#examples img { cursor: pointer; }
#examples .grid-wrap { overflow: hidden; height: auto; max-height: none; }
#examples .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); }
"""
# Puts the settings into the page's address, so that a link shows the same.
ADDRESS = "(query) => { history.replaceState(null, '', query ? '?' + query : location.pathname); }"
FIRST_EXAMPLE = "coffee"
FONTS = ("system-ui", "sans-serif")
MONO = ("ui-monospace", "monospace")


def theme() -> gr.themes.Base:
    """Make the page's theme; its fonts are the visitor's own, so nothing is fetched."""
    return gr.themes.Default(font=list(FONTS), font_mono=list(MONO))


class Page:
    """The page of an engine; `blocks` is what gradio serves."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._handlers = Handlers(engine)
        self._visits = Visits()
        with gr.Blocks(
            title=TITLE, analytics_enabled=False, delete_cache=(300, 900), fill_width=True
        ) as self.blocks:
            self._states()
            gr.Markdown(INTRODUCTION)
            with gr.Row():
                with gr.Column(scale=1, min_width=300):
                    self._inputs()
                with gr.Column(scale=3, min_width=320):
                    self._outputs()
            self._events()

    def _states(self) -> None:
        self.source = gr.State(None)
        self.number = gr.State(0)  # of the request that is shown, see `Visits`
        self.shown = {name: gr.State(None) for name in (INITIAL, FINAL, RIVAL)}

    def _inputs(self) -> None:
        defaults = DemoSettings()
        engine = self._engine
        self.image = gr.File(
            file_types=["image"], type="filepath", label="Your image", height=120, elem_id="upload"
        )
        self.note = gr.HTML(
            f'<p class="note">Up to {LARGEST_FILE / 1e6:.0f} MB; sent with at most '
            f"{LONGEST_SIDE} pixels a side. Images stay on this machine and are deleted.</p>",
            elem_id="note",
        )
        self.gallery = gr.Gallery(
            [(str(example_path(name)), name) for name in example_names()],
            label="or an example",
            columns=3,
            height=235,
            allow_preview=False,
            interactive=False,
            elem_id="examples",
        )
        self.snr = gr.Slider(
            -10, 25, defaults.snr, step=0.5, label="SNR (Es/N0) / dB", elem_id="snr"
        )
        self.rate = gr.Radio(
            engine.rates, value=defaults.rate, label="Rate / channel uses per pixel", elem_id="rate"
        )
        self.channel = gr.Dropdown(
            list(get_args(FadingName)), value=defaults.channel, label="Channel", elem_id="channel"
        )
        self.refine = gr.Checkbox(
            defaults.refine and engine.steps is not None,
            label="Diffusion receiver",
            interactive=engine.steps is not None,
            elem_id="refine",
        )
        self.steps = gr.Slider(
            1, 50, engine.steps or 1, step=1, label="Sampling steps", elem_id="steps"
        )
        self.rival = gr.Dropdown(
            list(get_args(Rival)),
            value=defaults.rival,
            label="Digital link to compare with",
            elem_id="rival",
        )
        with gr.Row():
            self.seed = gr.Number(
                defaults.seed,
                label="Seed of noise and fades",
                precision=0,
                minimum=0,
                min_width=120,
            )
            self.bandwidth = gr.Number(
                defaults.bandwidth, label="Bandwidth / kHz", minimum=1, maximum=1e6, min_width=120
            )
        self.example = gr.Textbox("", visible=False)

    def _outputs(self) -> None:
        with gr.Row():
            self.left = gr.Dropdown(
                list(NAMES),
                value=INITIAL,
                label="left of the handle",
                elem_id="left",
                min_width=140,
            )
            self.right = gr.Dropdown(
                list(NAMES), value=FINAL, label="right of it", elem_id="right", min_width=140
            )
        self.slider = gr.ImageSlider(
            label="before / after",
            format="png",
            interactive=False,
            max_height=620,
            elem_id="slider",
        )
        with gr.Row(equal_height=True):
            self.status = gr.HTML("", elem_id="status")
            self.stop = gr.Button("Cancel", size="sm", scale=0, min_width=100, elem_id="cancel")
        self.table = gr.HTML("", elem_id="table", elem_classes="scroll")
        with gr.Row():
            self.images = {
                name: gr.Image(
                    label=name,
                    format="png",
                    interactive=False,
                    min_width=200,
                    elem_id=f"image-{name.split()[0]}",
                )
                for name in NAMES
            }
        with gr.Tabs():
            with gr.Tab("Received symbols"):
                self.constellation = gr.Image(
                    show_label=False, interactive=False, height=440, elem_id="constellation"
                )
            with gr.Tab("Quality over SNR"):
                gr.Markdown("Transmitters set for the SNR above; the channel (AWGN) differs.")
                self.curve_button = gr.Button("Compute for this image", elem_id="curve-button")
                self.curve_status = gr.HTML("")
                self.curve = gr.Image(
                    show_label=False, interactive=False, height=440, elem_id="curve"
                )
            with gr.Tab("Uncertainty"):
                gr.Markdown("Where images sampled from the same symbols disagree (bright).")
                self.map_button = gr.Button("Compute for this image", elem_id="map-button")
                self.map_status = gr.HTML("")
                self.map = gr.Image(show_label=False, interactive=False, height=440, elem_id="map")
            with gr.Tab("Command and link"):
                gr.Markdown("This command sends the same over the same noise:")
                self.command = gr.Code("", language="shell", interactive=False, elem_id="command")
                gr.Markdown("The page's address holds all settings: copy it to show the same.")
                self.query = gr.Textbox("", visible=False)

    def _settings(self) -> list[Any]:
        """Components of the settings, in the order in which `_read` takes their values."""
        return [
            self.snr,
            self.rate,
            self.channel,
            self.refine,
            self.steps,
            self.rival,
            self.seed,
            self.bandwidth,
            self.example,
        ]

    def _read(self, *values: object) -> DemoSettings:
        names = [
            "snr",
            "rate",
            "channel",
            "refine",
            "steps",
            "rival",
            "seed",
            "bandwidth",
            "example",
        ]
        given = dict(zip(names, values, strict=True))
        if given["steps"] == self._engine.steps:
            given["steps"] = None
        return self._handlers.settings(given)

    def _events(self) -> None:
        inputs = [self.source, *self._settings()]
        initial, final, rival = (self.shown[name] for name in (INITIAL, FINAL, RIVAL))
        handlers = self._handlers

        def codec(
            request: gr.Request, source: SourceImage | None, *values: object
        ) -> tuple[object, ...]:
            if source is None:
                return (gr.skip(),) * 7
            settings = guarded(lambda: self._read(*values))
            number = self._visits.renew(str(request.session_hash))
            shown, symbols = guarded(lambda: handlers.codec(source, settings))
            name = source.name
            return shown, symbols, settings.command(name), settings.query, None, None, number

        def receiver(
            request: gr.Request, number: int, source: SourceImage | None, *values: object
        ) -> Iterator[object]:
            if source is None:
                return
            settings = guarded(lambda: self._read(*values))
            for step in _steps(lambda: handlers.receiver(source, settings)):
                if not self._visits.is_latest(str(request.session_hash), number):
                    return  # closes the steps, and so ends the sampling
                yield step

        def digital(source: SourceImage | None, *values: object) -> Shown:
            return guarded(lambda: handlers.rival(source, self._read(*values)))

        def curves(source: SourceImage | None, *values: object) -> Iterator[tuple[Any, str]]:
            yield from _steps(lambda: handlers.curves(source, self._read(*values)))

        def uncertainty(source: SourceImage | None, *values: object) -> Iterator[tuple[Any, str]]:
            yield from _steps(lambda: handlers.uncertainty(source, self._read(*values)))

        self.image.upload(handlers.upload, self.image, [self.source, self.note], **PRIVATE).success(
            lambda: "", None, self.example, **PRIVATE
        )
        self.gallery.select(self._pick, None, [self.source, self.note, self.example], **PRIVATE)
        self.blocks.load(
            self._restore, None, [*self._settings(), self.source, self.note], **PRIVATE
        )

        changed = [component.change for component in (self.source, *self._settings()[:-2])]
        first = gr.on(
            changed,
            codec,
            inputs,
            [initial, self.constellation, self.command, self.query, final, rival, self.number],
            trigger_mode="always_last",
            concurrency_id="codec",
            concurrency_limit=2,
            show_progress="hidden",
            **PRIVATE,
        )
        first.success(None, self.query, None, js=ADDRESS)
        second = first.success(
            receiver,
            [self.number, *inputs],
            [final, self.status],
            trigger_mode="multiple",
            concurrency_id="sampling",
            concurrency_limit=1,
            show_progress="full",
            show_progress_on=self.status,
            **PRIVATE,
        )
        third = first.success(
            digital,
            inputs,
            rival,
            trigger_mode="multiple",
            concurrency_id="digital",
            concurrency_limit=1,
            show_progress="hidden",
            **PRIVATE,
        )
        slow = [
            self.curve_button.click(
                curves,
                inputs,
                [self.curve, self.curve_status],
                concurrency_id="sampling",
                **PRIVATE,
            ),
            self.map_button.click(
                uncertainty,
                inputs,
                [self.map, self.map_status],
                concurrency_id="sampling",
                **PRIVATE,
            ),
        ]
        self.stop.click(
            self._cancel,
            None,
            [self.status, self.curve_status, self.map_status],
            cancels=[second, third, *slow],
            queue=False,
            **PRIVATE,
        )
        self._drawing()

    def _drawing(self) -> None:
        """Draw images, table and slider whenever one of what they show changes."""
        shown = [self.shown[name] for name in (INITIAL, FINAL, RIVAL)]
        quick = {"queue": False, "show_progress": "hidden", **PRIVATE}
        for name, state in self.shown.items():
            state.change(_panel(name), state, self.images[name], **quick)
        self.source.change(
            lambda s: _image(original(s)), self.source, self.images[ORIGINAL], **quick
        )
        gr.on(
            [state.change for state in shown] + [self.bandwidth.change],
            self._handlers.table,
            [self.bandwidth, *shown],
            self.table,
            **quick,
        )

        def before_after(
            left: str, right: str, source: SourceImage | None, *items: Shown | None
        ) -> object:
            named = dict(zip((INITIAL, FINAL, RIVAL), items, strict=True))
            return compared(left, right, {ORIGINAL: original(source), **named})

        gr.on(
            [state.change for state in shown] + [self.left.change, self.right.change],
            before_after,
            [self.left, self.right, self.source, *shown],
            self.slider,
            **quick,
        )

    def _cancel(self, request: gr.Request) -> tuple[str, str, str]:
        self._visits.renew(str(request.session_hash))
        return "cancelled", "", ""

    def _pick(self, event: gr.SelectData) -> tuple[SourceImage, str, str]:
        name = example_names()[int(event.index)]
        return *self._handlers.example(name), name

    def _restore(self, request: gr.Request) -> list[object]:
        """Set the components by the page's address; without an image, take an example."""

        def read() -> tuple[DemoSettings, SourceImage, str]:
            settings = DemoSettings.from_query(dict(request.query_params))
            name = settings.example or FIRST_EXAMPLE
            source, note = self._handlers.example(name)
            return settings.model_copy(update={"example": name}), source, note

        settings, source, note = guarded(read)
        values = settings.model_dump()
        if settings.steps is None:
            values["steps"] = self._engine.steps or 1
        return [*values.values(), source, note]


PRIVATE: dict[str, Any] = {"api_visibility": "private"}


def _panel(name: str) -> Callable[[Shown | None], object]:
    return lambda shown: _image(shown or Shown(name))


def _image(shown: Shown | None) -> object:
    """An update of an image component."""
    if shown is None:
        return None
    return gr.Image(value=shown.image, label=shown.caption)


def _steps(make: Callable[[], Generator[Any, None, None]]) -> Generator[Any, None, None]:
    """Give what an iterator gives; its errors are said on the page."""
    iterator = guarded(make)
    end = object()
    try:
        while (item := guarded(lambda: next(iterator, end))) is not end:
            yield item
    finally:
        iterator.close()

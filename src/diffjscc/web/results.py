"""Components that show what came out, and the redrawing of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from diffjscc.metrics.catalogue import MetricInfo
from diffjscc.web.handlers import FINAL, INITIAL, NAMES, RIVAL
from diffjscc.web.shown import Files, Shown, blank
from diffjscc.web.tables import metrics_table

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", **PRIVATE}

SLIDER = "before / after"
BUTTONS: list[Any] = ["download", "fullscreen"]  # none that sends images elsewhere
SENT = (INITIAL, FINAL, RIVAL)


class Results:
    """The right column of the page.

    Args:
        files: where images are written for browsers.
        infos: metrics of the table.

    Attributes:
        shown: a state per image, by the names `NAMES`; it holds a `Shown` or None.
        images: component of each.
        status, stop: state of the receiver's work, and the button that ends it.
        constellation, curve, curve_button, curve_status, map, map_button, map_status: tabs.
        command, query: the command that does the same, and the settings as a query.
    """

    def __init__(self, files: Files, infos: tuple[MetricInfo, ...]) -> None:
        self._files = files
        self._infos = infos
        self.shown = {name: gr.State(None) for name in NAMES}
        with gr.Row():
            self._left, self._right = (
                gr.Dropdown(list(NAMES), value=name, label=label, elem_id=place, min_width=140)
                for name, label, place in (
                    (INITIAL, "left of the handle", "left"),
                    (FINAL, "right of it", "right"),
                )
            )
        self._slider = gr.ImageSlider(
            label=SLIDER, interactive=False, max_height=620, elem_id="slider"
        )
        with gr.Row(equal_height=True):
            self.status = gr.HTML("", elem_id="status")
            self.stop = gr.Button("Cancel", size="sm", scale=0, min_width=100, elem_id="cancel")
        self._table = gr.HTML("", elem_id="table", elem_classes="scroll")
        with gr.Row():
            self.images = {
                name: gr.Image(
                    label=name,
                    interactive=False,
                    buttons=BUTTONS,
                    min_width=150,  # two beside each other on a telephone
                    elem_id=f"image-{name.split()[0]}",
                )
                for name in NAMES
            }
        with gr.Tabs():
            self._tabs()

    def _tabs(self) -> None:
        with gr.Tab("Received symbols"):
            self.constellation = _plot("constellation")
        with gr.Tab("Quality over SNR"):
            gr.Markdown("Transmitters set for the SNR above; the channel (AWGN) differs.")
            self.curve_button = gr.Button("Compute for this image", elem_id="curve-button")
            self.curve_status = gr.HTML("")
            self.curve = _plot("curve")
        with gr.Tab("Uncertainty"):
            gr.Markdown("Where images sampled from the same symbols disagree (bright).")
            self.map_button = gr.Button("Compute for this image", elem_id="map-button")
            self.map_status = gr.HTML("")
            self.map = _plot("map")
        with gr.Tab("Command and link"):
            gr.Markdown(
                "This command sends the same over the same noise; save the original above as "
                "`original.png` first (button in its corner)."
            )
            self.command = gr.Code("", language="shell", interactive=False, elem_id="command")
            gr.Markdown("The page's address holds all settings: copy it to show the same.")
            self.query = gr.Textbox("", visible=False)

    def file(self, png: bytes | None, name: str) -> str | None:
        """Write an image for browsers; gives its path."""
        return self._files.path(png, name)

    def panel(self, name: str, shown: Shown | None) -> object:
        """Update of an image's component."""
        item = shown or Shown(name)
        return gr.Image(value=self.file(item.png, name), label=item.caption)

    def redraw(self, bandwidth: gr.components.Component) -> None:
        """Draw images, table and slider whenever one of what they show changes."""
        for name, state in self.shown.items():
            if name != INITIAL:  # the codec's is drawn by the event that makes it, at once
                state.change(self._panel_of(name), state, self.images[name], **QUICK)
        sent = [self.shown[name] for name in SENT]
        gr.on(
            [*(state.change for state in sent), bandwidth.change],  # type: ignore[attr-defined]
            self._write_table,
            [bandwidth, *sent],
            self._table,
            trigger_mode="always_last",
            **QUICK,
        )
        states = list(self.shown.values())
        gr.on(
            [*(state.change for state in states), self._left.change, self._right.change],
            self._compare,
            [self._left, self._right, *states],
            self._slider,
            trigger_mode="always_last",
            **QUICK,
        )

    def _panel_of(self, name: str) -> Callable[[Shown | None], object]:
        return lambda shown: self.panel(name, shown)

    def _write_table(self, bandwidth: float, *shown: Shown | None) -> str:
        items = [item or Shown(name) for name, item in zip(SENT, shown, strict=True)]
        return metrics_table(items, self._infos, bandwidth)

    def _compare(self, left: str, right: str, *shown: Shown | None) -> object:
        named = {name: item or Shown(name) for name, item in zip(NAMES, shown, strict=True)}
        pair = compared(named[left], named[right])
        if pair is None:
            return gr.ImageSlider(value=None, label=SLIDER)
        paths = self.file(pair[0], left), self.file(pair[1], right)
        captions = " | ".join(named[name].caption for name in (left, right))
        return gr.ImageSlider(value=paths, label=f"{SLIDER}: {captions}")


def compared(left: Shown, right: Shown) -> tuple[bytes, bytes] | None:
    """Choose the two images of the before/after slider; one that is missing is grey."""
    size = left.size or right.size
    if size is None:
        return None
    return left.png or blank(size), right.png or blank(size)


def _plot(name: str) -> gr.Image:
    return gr.Image(show_label=False, interactive=False, buttons=BUTTONS, height=440, elem_id=name)

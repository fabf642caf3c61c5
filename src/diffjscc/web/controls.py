"""Components by which a visitor chooses an image and a link."""

from __future__ import annotations

from typing import Any, get_args

import gradio as gr

from diffjscc.web.engine import Engine
from diffjscc.web.settings import DemoSettings, FadingName, Rival
from diffjscc.web.uploads import LARGEST_FILE, LONGEST_SIDE, example_names, example_path


class Controls:
    """The left column of the page.

    Attributes:
        upload: where files are dropped.
        note: a line about the image.
        gallery: the examples.
        components: of the settings, by the names in `DemoSettings` and in their order.
    """

    def __init__(self, engine: Engine) -> None:
        self._own_steps = engine.steps
        defaults = DemoSettings()
        self.upload = gr.File(
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
        self.components: dict[str, gr.components.Component] = {
            "snr": gr.Slider(
                -10, 25, defaults.snr, step=0.5, label="SNR (Es/N0) / dB", elem_id="snr"
            ),
            "rate": gr.Radio(
                engine.rates,
                value=defaults.rate,
                label="Rate / channel uses per pixel",
                elem_id="rate",
            ),
            "channel": gr.Dropdown(
                list(get_args(FadingName)),
                value=defaults.channel,
                label="Channel",
                elem_id="channel",
            ),
            "refine": gr.Checkbox(
                defaults.refine and engine.steps is not None,
                label="Diffusion receiver",
                interactive=engine.steps is not None,
                elem_id="refine",
            ),
            "steps": gr.Slider(
                1, 50, engine.steps or 1, step=1, label="Sampling steps", elem_id="steps"
            ),
            "rival": gr.Dropdown(
                list(get_args(Rival)),
                value=defaults.rival,
                label="Digital link to compare with",
                elem_id="rival",
            ),
        }
        with gr.Row():
            self.components |= {
                "seed": gr.Number(
                    defaults.seed,
                    label="Seed of noise and fades",
                    precision=0,
                    minimum=0,
                    min_width=120,
                    elem_id="seed",
                ),
                "bandwidth": gr.Number(
                    defaults.bandwidth,
                    label="Bandwidth / kHz",
                    minimum=1,
                    maximum=1e6,
                    min_width=120,
                    elem_id="bandwidth",
                ),
            }
        self.components["example"] = gr.Textbox("", visible=False)

    @property
    def bandwidth(self) -> gr.components.Component:
        """Component of the bandwidth, on which the airtime alone depends."""
        return self.components["bandwidth"]

    @property
    def example(self) -> gr.components.Component:
        """Component that holds the name of the example."""
        return self.components["example"]

    @property
    def inputs(self) -> list[Any]:
        """All components of the settings, in the order of `named`."""
        return list(self.components.values())

    @property
    def changes(self) -> list[Any]:
        """Events after which the image is sent again."""
        passive = ("bandwidth", "example")
        return [c.change for name, c in self.components.items() if name not in passive]  # type: ignore[attr-defined]

    def named(self, *values: object) -> dict[str, object]:
        """Name the values of the components; the weights' own number of steps is None."""
        given = dict(zip(self.components, values, strict=True))
        if given["steps"] == self._own_steps:
            given["steps"] = None
        return given

    def values(self, settings: DemoSettings) -> list[object]:
        """Values of the components for some settings, in the order of `named`."""
        given = settings.model_dump()
        if settings.steps is None:
            given["steps"] = self._own_steps or 1
        return [given[name] for name in self.components]

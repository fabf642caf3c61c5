"""One image by several schemes over the same noise, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from diffjscc.choices import DigitalKind, NeuralKind, SchemeKind
from diffjscc.cli.jobs import metrics_text
from diffjscc.configuration import closest
from diffjscc.data.images import save_image
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.results import Absent
from diffjscc.evaluation.transmission import Link, SourceImage
from diffjscc.report.panels import side_by_side
from diffjscc.scheme import InfeasibleError
from diffjscc.schemes.config import DDNM_OPTIONS, SchemeConfig, is_digital
from diffjscc.schemes.digital import DigitalOptions
from diffjscc.schemes.options import RefinerOptions, option_name

MOST_BESIDE = 4
BLANK = 0.92  # a grey where there is no image
KINDS: tuple[SchemeKind, ...] = (*get_args(NeuralKind), *get_args(DigitalKind))


@dataclass(frozen=True)
class Comparison:
    """Files to send by each of several schemes.

    Attributes:
        links: one a scheme, over the same channel, with the same seed.
        repeats: transmissions per image and scheme.
        output: folder of the images.
    """

    links: Sequence[Link]
    repeats: int
    output: Path

    def files(self, stem: str) -> list[Path]:
        """STEM-SCHEME.png (STEM-SCHEME-2.png, …) of each scheme, and STEM-side-by-side.png."""
        names = [
            self._name(stem, link, repeat) for link in self.links for repeat in range(self.repeats)
        ]
        return [self.output / f"{name}.png" for name in (*names, f"{stem}-side-by-side")]

    def send(self, path: Path, stem: str, sent: Callable[[], None]) -> list[Record | Absent]:
        """Transmit one file by every scheme; `sent` is called after every transmission.

        What a scheme cannot send is left blank in the image of all of them.
        """
        image = SourceImage.read(path)
        height, width = image.pixels.shape[-2:]
        lines: list[Record | Absent] = []
        panels: list[Tensor] = [image.pixels]
        words = [f"original, {width}x{height}"]
        for link in self.links:
            for repeat in range(self.repeats):
                try:
                    (delivery,) = link.transmit([image], [repeat])
                except InfeasibleError as error:
                    point = link.name, link.channel.label, str(link.scheme.rate), link.snr_db
                    lines.append(Absent(*point, image.name, str(error)))
                    panels.append(torch.full_like(image.pixels, BLANK))
                    words.append(f"{link.name} cannot send it: {error}")
                    for _ in range(repeat, self.repeats):
                        sent()
                    break
                lines.append(delivery.row)
                name = self._name(stem, link, repeat)
                save_image(delivery.final, self.output / f"{name}.png")
                if repeat == 0:
                    panels.append(delivery.final)
                    words.append(label(delivery.row))
                sent()
        rows = math.ceil(len(panels) / MOST_BESIDE)
        sheet = side_by_side(panels, words, math.ceil(len(panels) / rows))
        save_image(sheet, self.output / f"{stem}-side-by-side.png")
        return lines

    @staticmethod
    def _name(stem: str, link: Link, repeat: int) -> str:
        scheme = link.name.replace(", ", "-")
        return f"{stem}-{scheme}" if repeat == 0 else f"{stem}-{scheme}-{repeat + 1}"


def label(row: Record) -> str:
    """What stands under a scheme's image."""
    outage = "outage, " if row.outage else ""
    link = f"{row.channel_uses} symbols at {row.snr_db:.1f} dB"
    return f"{row.scheme}: {outage}{link}, {metrics_text(row.final)}"


def choose(
    names: Sequence[str],
    weights: str,
    adversarial: str | None,
    painting: RefinerOptions,
    link: DigitalOptions,
) -> list[SchemeConfig]:
    """Schemes of several kinds, each with those options that are for it.

    Args:
        names: kinds.
        weights: of all that have any but "adv".
        adversarial: weights of "adv".
        painting: how receivers paint.
        link: how digital links differ from those that adapt to the SNR.

    Raises:
        ValueError: a kind is unknown or given twice, "adv" has no weights, or an option is for
            none of them.
    """
    kinds = [_kind(name) for name in names]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise ValueError(f"--scheme {twice[0]} is given more than once; give each scheme once")
    if "adv" in kinds and adversarial is None:
        raise ValueError(
            "--scheme adv needs a codec of its own; make one with `diffjscc train adversarial "
            "--init compact`, and give the folder of its weights by --adversarial"
        )
    choices = [
        SchemeConfig(
            kind=kind,
            weights=weights if kind != "adv" or adversarial is None else adversarial,
            painting=_painting_for(kind, painting),
            link=_link_for(kind, link),
        )
        for kind in kinds
    ]
    heard = {option for choice in choices for option in choice.painting.given}
    heard |= {name for choice in choices for name in choice.link.model_fields_set}
    asked = [*painting.given, *sorted(link.model_fields_set)]
    if adversarial is not None and "adv" not in kinds:
        asked.append("--adversarial")
    unheard = [option for option in asked if option not in heard]
    if unheard:
        options = ", ".join(f"--{option.removeprefix('--')}" for option in unheard)
        raise ValueError(
            f"{options} means nothing to {', '.join(kinds)}; leave it out, or add a scheme that "
            "it is for"
        )
    return choices


def _kind(name: str) -> SchemeKind:
    for kind in KINDS:
        if kind == name:
            return kind
    raise ValueError(f"--scheme {name} is not known; {closest(name, KINDS)}")


def _painting_for(kind: SchemeKind, painting: RefinerOptions) -> RefinerOptions:
    if kind not in ("diffjscc", "ddnm"):
        return RefinerOptions()
    own = painting.given if kind == "diffjscc" else DDNM_OPTIONS.intersection(painting.given)
    names = [field.name for field in fields(painting)]
    return RefinerOptions(
        **{name: getattr(painting, name) for name in names if option_name(name) in own}
    )


def _link_for(kind: SchemeKind, link: DigitalOptions) -> DigitalOptions:
    if not is_digital(kind):
        return DigitalOptions()
    if kind.endswith("-ldpc"):
        return link
    return DigitalOptions.model_validate(
        link.model_dump(include={"downsample"}, exclude_unset=True)
    )

"""Networks with small receptive fields, applied to images larger than memory in bands of rows.

A network is a list of stages. Bands of an image flow through all of them from top to bottom; a
stage holds back only the rows whose lower neighbours have not come yet (as line buffers do in
hardware). The result is that of the whole image to rounding; no layer computes a row twice but for
the margins of its convolutions, and memory is that of a few bands, whatever the image's height.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffjscc.progress import reported

Bands = Iterator[Tensor]

# Positions of latents that are processed whole (of one megapixel), and in the bands of larger ones:
# there a layer's features fit into the cache of a processor.
LARGEST_WHOLE, BAND = 4096, 2048


class Layer(Protocol):
    """Layers applied to adjacent rows of an image."""

    def __call__(self, x: Tensor, keep: slice, top: int) -> Tensor:
        """Transform rows [B, C, r, W].

        Args:
            x: the rows; above and below them may be others, or the image's border.
            keep: units of `x` (see `Stage.step`) whose output is wanted.
            top: index in the image of the first unit of `x`.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """Layers that see few rows.

    Attributes:
        layer: the layers.
        reach: units above, and below, that a unit's output depends on.
        step: rows of input that make a unit.
    """

    layer: Layer
    reach: int = 0
    step: int = 1


def band_rows(size: tuple[int, int]) -> int:
    """Rows of a band of a latent of size (h, w); h for one that is processed whole."""
    height, width = size
    return height if height * width <= LARGEST_WHOLE else max(4, BAND // width)


class RowQueue:
    """Rows that pass stages by: put in where they come about, taken out where they are added."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []

    def put(self, rows: Tensor) -> None:
        """Append rows [B, C, r, W]."""
        self._rows.append(rows)

    def take(self, number: int) -> Tensor:
        """Remove the first `number` rows."""
        rows = self._rows[0] if len(self._rows) == 1 else torch.cat(self._rows, dim=-2)
        self._rows = [rows[..., number:, :].clone()]
        return rows[..., :number, :]


def run(
    stages: Sequence[Stage],
    source: Callable[[slice], Tensor],
    size: tuple[int, int],
    band: int,
    work: str,
) -> Tensor:
    """Apply a network to an image.

    Args:
        stages: the network.
        source: makes rows [B, C, r, W] of the image.
        size: rows of the image and of the result.
        band: rows of a band; with all rows or more the image is processed in one piece.
        work: name of the work in reports of progress.

    Returns:
        [B, C', rows, W'].
    """
    rows, results = size
    if band >= rows:
        return whole(stages, source(slice(0, rows)))
    bands = (source(some) for some in reported(split(rows, band), work))
    return collect(flow(stages, bands, rows), results)


def split(rows: int, band: int) -> list[slice]:
    """Cut rows into bands of `band` rows; the last one may have fewer."""
    return [slice(top, min(top + band, rows)) for top in range(0, rows, band)]


def whole(stages: Iterable[Stage], x: Tensor) -> Tensor:
    """Apply a network to a whole image [B, C, H, W]."""
    for stage in stages:
        x = stage.layer(x, slice(None), 0)
    return x


def flow(stages: Iterable[Stage], bands: Iterable[Tensor], rows: int) -> Bands:
    """Apply a network to bands [B, C, r, W] of one image of `rows` rows.

    Yields:
        Bands of the result, together all of its rows.
    """
    marked = _with_last(bands, rows)
    for stage in stages:
        marked = _through(stage, marked)
    return (band for band, _ in marked)


def _with_last(bands: Iterable[Tensor], rows: int) -> Iterator[tuple[Tensor, bool]]:
    """Pass on bands, each with whether it is the last."""
    for band in bands:
        rows -= band.shape[-2]
        yield band, rows == 0


def _through(stage: Stage, bands: Iterator[tuple[Tensor, bool]]) -> Iterator[tuple[Tensor, bool]]:
    """Apply one stage to bands, each with whether it is the last."""
    x: Tensor | None = None  # rows that have come and are needed still
    above, top, most = 0, 0, 0  # units of `x` that are done, place of its first, units at once
    for band, last in bands:
        most = max(most, band.shape[-2] // stage.step)  # the first bands are short
        x = band if x is None else torch.cat((x, band), dim=-2)
        del band
        units = x.shape[-2] // stage.step
        # In pieces: with the last band, all stages give away the rows that they held back.
        while x is not None and above < (ready := units if last else units - stage.reach):
            end = min(above + max(most, 1), ready)
            seen = x[..., : (end + stage.reach) * stage.step, :]
            done = [stage.layer(seen, slice(above, end), top)]
            first = max(end - stage.reach, 0)
            above, top, units = end - first, top + first, units - first
            rest = x[..., first * stage.step :, :]
            x = rest.clone() if rest.shape[-2] else None
            del seen, rest  # before the next stages take memory
            yield done.pop(), last and above == units


def collect(bands: Bands, rows: int, columns: int | None = None) -> Tensor:
    """Join bands to a whole image of `rows` rows, and `columns` columns if given.

    What goes beyond is cropped; a single band is not copied.
    """
    joined: Tensor | None = None
    top = 0
    for band in bands:
        height = min(band.shape[-2], rows - top)
        part = band[..., :height, :columns]
        if height == rows:
            return part
        if joined is None:
            joined = torch.empty(
                (*part.shape[:2], rows, part.shape[-1]),
                dtype=part.dtype,
                device=part.device,
                memory_format=torch.channels_last,
            )
        joined[..., top : top + height, :] = part
        top += height
        del band, part  # before the next one takes memory
    assert joined is not None
    return joined

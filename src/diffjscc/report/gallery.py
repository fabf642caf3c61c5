"""Kept images, ready to be put into a page: what can be laid beside what."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from diffjscc.data.images import decode
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.results import KeptImages, Results, ResultsError

QUALITY = 90  # of WebP
WEBP_SIDE = 16383  # pixels; the format has no larger images

Kind = Literal["original", "initial", "final", "uncertainty"]


@dataclass(frozen=True)
class Embedded:
    """An image as a data URI, and its size in pixels."""

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class View:
    """An image in a scene.

    Attributes:
        label: what tells it from the others there.
        kind: what it is.
        image: its number among the images.
        row: the number of its transmission among the rows; None for an original.
    """

    label: str
    kind: Kind
    image: int
    row: int | None


@dataclass
class Scene:
    """Everything that was kept of an image at an operating point, by whichever scheme.

    Attributes:
        image: the image's name.
        point: rate, SNR and channel, and which repeat if it is not the first.
        views: the original, then each scheme's images.
    """

    image: str
    point: str
    views: list[View] = field(default_factory=list)


class Gallery:
    """Scenes, and the images in them: each once, however often it is shown.

    Args:
        rows: what views refer to.
    """

    def __init__(self, rows: Sequence[Record]) -> None:
        self.scenes: dict[object, Scene] = {}
        self.images: list[Embedded] = []
        self._numbers: dict[bytes, int] = {}
        self._rows = {row.transmission: number for number, row in enumerate(rows)}

    def add(self, result: Results) -> None:
        """Add what a folder of results kept.

        Raises:
            ResultsError: an image is missing, or of no row.
            ValueError: an image is damaged.
        """
        for shown in result.shown:
            row = result.row_of(shown)
            place = (shown.image, row.image_hash, *shown.cell[1:], shown.repeat)
            scene = self.scenes.setdefault(place, Scene(shown.image, _point(shown)))
            number = self._rows[row.transmission]
            originals = [View("original", "original", self._number(result, shown.original), None)]
            own: tuple[tuple[Kind, str | None], ...] = (
                ("initial", shown.initial),
                ("final", shown.final),
                ("uncertainty", shown.uncertainty),
            )
            views = originals + [
                View(f"{shown.scheme}, {kind}", kind, self._number(result, name), number)
                for kind, name in own
                if name is not None
            ]
            scene.views += [view for view in views if view not in scene.views]

    def _number(self, result: Results, name: str) -> int:
        path = result.folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise ResultsError(
                f"{path} is missing; put it back, or remove its line in "
                f"{result.folder / 'images.jsonl'}"
            ) from error
        digest = hashlib.sha256(content).digest()
        if digest not in self._numbers:
            self._numbers[digest] = len(self.images)
            self.images.append(embedded(content, path))
        return self._numbers[digest]


def embedded(content: bytes, path: Path) -> Embedded:
    """A PNG file's image as WebP of quality 90, or as it is where that takes fewer bytes.

    Args:
        content: of the file.
        path: what errors call it.

    Raises:
        ImageError: it cannot be decoded.
    """
    image = Image.fromarray(decode(io.BytesIO(content), path))
    kind, best = "png", content
    if max(image.size) <= WEBP_SIDE:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=QUALITY)
        if buffer.tell() < len(content):
            kind, best = "webp", buffer.getvalue()
    source = f"data:image/{kind};base64,{base64.b64encode(best).decode()}"
    return Embedded(source, image.width, image.height)


def _point(shown: KeptImages) -> str:
    repeat = f", repeat {shown.repeat}" if shown.repeat else ""
    return f"R = {shown.nominal_rate}, {shown.nominal_snr_db:g} dB, {shown.channel}{repeat}"
